# install + find_package(membrain): the public headers, the libraries behind them, the membrain binary.

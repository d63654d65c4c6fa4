#include "tools/command_line.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tools/common_options.h"

namespace membrain {
namespace {

/// Two commands like the real ones, and a configuration file.
class CommandLine : public testing::Test {
 protected:
  CommandLine() {
    Command node("node", "Keeps blocks", [] { return Exit::ok; });
    node.address("server", server_, "The server")
        .size("capacity", capacity_, "Memory for blocks")
        .required()
        .choice("verify", verify_, "Check bytes")
        .toggle("fresh", fresh_, "Forget")
        .duration("timeout", timeout_, "Patience");
    Command other("status", "Shows counters", [] { return Exit::ok; });
    other.toggle("json", json_, "As JSON").words("WHAT", what_, "move NAME   does it now");
    for (Command* command : {&node, &other}) common_.bind(*command);
    commands_ = {node, other};
  }
  ~CommandLine() override { std::filesystem::remove(path_); }

  Outcome<Intent> parse(const std::vector<std::string>& words, const Environment& variables = {}) {
    return parse_command_line(commands_, words, variables);
  }
  std::string complaint(const std::vector<std::string>& words, const Environment& variables = {}) {
    const Outcome<Intent> intent = parse(words, variables);
    return intent ? "no complaint" : intent.error().text;
  }
  std::string file(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }

  std::string path_ =
      testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + ".toml";
  std::string server_ = "127.0.0.1:9201";
  std::uint64_t capacity_ = 0;
  bool verify_ = true;
  bool fresh_ = false;
  bool json_ = false;
  std::vector<std::string> what_;
  std::chrono::milliseconds timeout_{10000};
  CommonOptions common_;
  std::vector<Command> commands_;
};

TEST_F(CommandLine, GivesEveryOptionItsValue) {
  const Outcome<Intent> intent =
      parse({"node", "--server", "10.0.0.1:1", "--capacity=4GiB", "--no-verify", "--fresh", "-v"});
  ASSERT_TRUE(intent) << intent.error().text;
  EXPECT_EQ(intent->command->name(), "node");
  EXPECT_EQ(server_, "10.0.0.1:1");
  EXPECT_EQ(capacity_, std::uint64_t{4} << 30);
  EXPECT_FALSE(verify_);
  EXPECT_TRUE(fresh_);
  EXPECT_EQ(common_.level(LogLevel::warn).value(), LogLevel::debug);
  EXPECT_EQ(timeout_, std::chrono::seconds(10));
}

TEST_F(CommandLine, WinsOverTheEnvironmentWhichWinsOverTheFile) {
  const std::string config = file(
      "log-level = \"error\"\n[node]\ncapacity = \"1MiB\"\nserver = \"h:1\"\ntimeout = \"1s\"\n"
      "verify = false\n");
  const Environment variables{{"MEMBRAIN_CONFIG", config},
                              {"MEMBRAIN_CAPACITY", "2MiB"},
                              {"MEMBRAIN_SERVER", "h:2"},
                              {"MEMBRAIN_FRESH", "yes"}};
  const Outcome<Intent> intent = parse({"node", "--capacity", "3MiB"}, variables);
  ASSERT_TRUE(intent) << intent.error().text;
  EXPECT_EQ(capacity_, std::uint64_t{3} << 20);
  EXPECT_EQ(server_, "h:2");
  EXPECT_EQ(timeout_, std::chrono::seconds(1));
  EXPECT_FALSE(verify_);
  EXPECT_TRUE(fresh_);
  EXPECT_EQ(common_.level(LogLevel::warn).value(), LogLevel::error);
}

TEST_F(CommandLine, NamesWhatItDoesNotKnow) {
  EXPECT_NE(complaint({"node", "--capacity", "1", "--frob"}).find("--frob"), std::string::npos);
  EXPECT_NE(complaint({"nod"}).find("nod"), std::string::npos);
  EXPECT_NE(complaint({}).find("which command"), std::string::npos);
  EXPECT_NE(complaint({"--frob"}).find("--frob"), std::string::npos);
}

TEST_F(CommandLine, SaysWhichValueIsWrongAndWhereItStands) {
  EXPECT_EQ(complaint({"node"}), "--capacity SIZE is needed");
  EXPECT_EQ(complaint({"node", "--capacity", "lots"}).find("--capacity: \"lots\" is not a size"),
            0U);
  EXPECT_EQ(complaint({"node", "--capacity", "1"}, {{"MEMBRAIN_TIMEOUT", "5"}})
                .find("MEMBRAIN_TIMEOUT: \"5\" is not a duration"),
            0U);
  const std::string config = file("[node]\n\ncapacity = \"1X\"\n");
  EXPECT_EQ(complaint({"node", "--config", config}).find(config + ":3: \"1X\" is not a size"), 0U);
}

TEST_F(CommandLine, NamesTheLineOfABadConfigurationFile) {
  const std::vector<std::string> words{"status", "--config", path_};
  file("[node]\ncapacty = \"1GiB\"\n");
  EXPECT_EQ(complaint(words), path_ + ":2: unknown key \"capacty\" in [node]");
  file("[nodes]\ncapacity = \"1GiB\"\n");
  EXPECT_EQ(complaint(words), path_ + ":2: there is no command for the table [nodes]");
  file("json = true\n");
  EXPECT_EQ(complaint(words), path_ + ":1: unknown key \"json\" outside any table");
  file("[status]\njson = [1]\n");
  EXPECT_EQ(complaint(words), path_ + ":2: \"json\" must be a string, a number, true or false");
  file("[status]\njson = \n");
  EXPECT_EQ(complaint(words).find(path_ + ":2: "), 0U);
  file("[:status]\njson = true\n");  // the parser asserts what stands there
  EXPECT_EQ(complaint(words).find(path_ + ": is not TOML"), 0U);
  std::filesystem::remove(path_);
  EXPECT_EQ(complaint(words), path_ + ": cannot be read: No such file or directory");
}

TEST_F(CommandLine, WarnsOfVariablesThatMeanNothing) {
  const Outcome<Intent> intent = parse({"status"}, {{"MEMBRAIN_CAPACTY", "1"},
                                                    {"MEMBRAIN_CAPACITY", "not read by status"},
                                                    {"MEMBRAIN_SECRET", "hush"}});
  ASSERT_TRUE(intent);
  EXPECT_EQ(intent->warnings,
            std::vector<std::string>{"MEMBRAIN_CAPACTY is no option of any command"});
}

using Words = std::vector<std::string>;

TEST_F(CommandLine, TakesWhatIsToBeDoneFromWords) {
  ASSERT_TRUE(parse({"status", "move", "--json", "here"}));
  EXPECT_EQ(what_, (Words{"move", "here"}));
  EXPECT_TRUE(json_);
  ASSERT_TRUE(parse({"status"}));
  EXPECT_EQ(what_, Words{});
}

TEST_F(CommandLine, TakesAWordForNoOtherCommand) {
  const Outcome<Intent> intent = parse({"status", "move", "node"});
  ASSERT_TRUE(intent) << intent.error().text;
  EXPECT_EQ(intent->command->name(), "status");
  EXPECT_EQ(what_, (Words{"move", "node"}));
}

TEST_F(CommandLine, TakesNoWordWhereNoneIsMeant) {
  EXPECT_NE(complaint({"node", "--capacity", "1", "extra"}).find("extra"), std::string::npos);
  EXPECT_NE(complaint({"node", "--capacity", "1", "status"}).find("status"), std::string::npos);
}

TEST_F(CommandLine, HelpsEverywhere) {
  const std::string all = parse({"--help"}).value().answer;
  EXPECT_NE(all.find("Keeps blocks"), std::string::npos);
  const Outcome<Intent> one = parse({"node", "--help"});
  ASSERT_TRUE(one);
  EXPECT_EQ(one->command, nullptr);
  EXPECT_NE(one->answer.find("--capacity SIZE"), std::string::npos) << one->answer;
  EXPECT_NE(one->answer.find("Patience [10 s]"), std::string::npos) << one->answer;
  const std::string words = parse({"status", "--help"}).value().answer;
  EXPECT_NE(words.find("status [OPTIONS] [WHAT...]"), std::string::npos) << words;
  EXPECT_NE(words.find("move NAME   does it now"), std::string::npos) << words;
  EXPECT_NE(parse({"--version"}).value().answer.find("membrain 0."), std::string::npos);
}

TEST_F(CommandLine, ShowsNoLineOfHelpThatIsTooLong) {
  std::istringstream lines(parse({"node", "--help"}).value().answer);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
}

TEST_F(CommandLine, KnowsTheLevelsOfTheLog) {
  EXPECT_EQ(common_.level(LogLevel::warn).value(), LogLevel::warn);
  common_.log_level = "loud";
  EXPECT_FALSE(common_.level(LogLevel::warn));
}

TEST_F(CommandLine, TakesTheSecretFromAFileOrTheEnvironmentOnly) {
  EXPECT_EQ(common_.secret({}).value(), "");
  EXPECT_EQ(common_.secret({{"MEMBRAIN_SECRET", "a"}}).value(), "a");
  common_.secret_file = file("from a file\r\nmore\n");
  EXPECT_EQ(common_.secret({{"MEMBRAIN_SECRET", "a"}}).value(), "from a file");
  file("");
  EXPECT_FALSE(common_.secret({}));
  EXPECT_NE(complaint({"status", "--secret", "x"}).find("--secret"), std::string::npos);
}

}  // namespace
}  // namespace membrain

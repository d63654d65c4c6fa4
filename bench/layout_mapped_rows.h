// Rows of layout_bench that read the arena of a node on this host.
#pragma once

namespace membrain {

/// fetch_layout, fetch_pieces and fetch_whole over the mapped path.
void register_layout_mapped_rows();

}  // namespace membrain

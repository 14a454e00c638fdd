//! Which components and which edges between them a metric comes from: gradients, exact patches, circuits.

pub mod alternative;
pub mod circuit;
pub mod circuit_run;
pub mod drawing;
pub mod edge_attribution;
pub mod exact_edge;
pub mod faithfulness;
pub mod graph;
pub mod mib;
pub mod pairs;
pub mod pull_back;
pub mod roc;
pub mod written;

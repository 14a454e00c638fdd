//! Which components and which edges between them a metric comes from: gradients, exact patches, circuits.

pub mod agreement;
pub mod alternative;
pub mod atp_star;
pub mod attribute;
pub mod circuit;
pub mod circuit_run;
pub mod drawing;
pub mod edge_attribution;
pub mod effect;
pub mod exact_edge;
pub mod faithfulness;
pub mod graph;
pub mod integrated;
pub mod mib;
pub mod node;
pub mod node_scores;
pub mod pairs;
pub mod pull_back;
pub mod replacement;
pub mod roc;
pub mod row_patch;
pub mod rule;
pub mod written;

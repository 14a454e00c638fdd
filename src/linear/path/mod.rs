//! Paths through the frozen map: sequences of nodes from a source token to one position, each with its share of the
//! logits.
//!
//! `request` says which edges paths may follow; `edge`, `prune` and `graph` find these edges and count the paths;
//! `walk` enumerates paths and `draw` samples them. `score` computes a path's value, such as its logit, and rank. Paths
//! share work: `cuts` chooses the layers where they are cut, `piece` pulls covectors back along the pieces between
//! cuts, `compose` puts whole paths together from folded pieces, and `best` searches for the highest values by matching
//! halves. `plan` decides all of this before anything is computed and then runs it; `method` and `estimate` are its
//! parts. `table` holds the outcome, and `export` writes it to files.

pub mod best;
pub mod compose;
pub mod cuts;
pub mod draw;
pub mod edge;
pub mod estimate;
pub mod export;
pub mod graph;
pub mod method;
pub mod piece;
pub mod plan;
pub mod prune;
pub mod request;
pub mod score;
pub mod table;
pub mod walk;

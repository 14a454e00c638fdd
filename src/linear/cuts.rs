//! Where paths are cut into segments. The beginnings up to the first cut are followed layer by layer; of every later segment the
//! pieces of paths through it are folded into maps, each used by all paths that pass it, at one product per path.

use std::iter::once;

use super::evaluate::Evaluator;
use super::graph::Count;

/// The most elements of one segment's maps: this, or of a large model a share of its layers' weights. It bounds the memory,
/// whatever the number of paths.
const MAPS: f64 = (1u64 << 25) as f64;
const SHARE_OF_WEIGHTS: f64 = 0.125;

/// The cuts of least work, and what going through all paths takes then, the unembedding not counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Cuts {
    /// The layers before which paths are cut, ascending; the last is the model's depth
    pub layers: Vec<usize>,
    /// Floating-point operations
    pub operations: f64,
    /// Elements of the maps that are held
    pub maps: f64,
}

impl Cuts {
    /// The cheapest cuts, as far as the maps can be held.
    pub fn new(evaluator: &Evaluator) -> Self {
        let (values, rest) = evaluator.step();
        let beginnings = evaluator.graph.beginnings();
        // The cheapest way to all beginnings that end before each layer.
        let mut best: Vec<Self> = Vec::new();
        let mut followed = 0.0;
        for (layer, arriving) in beginnings.iter().map(|reached| reached.iter().sum::<Count>()).enumerate() {
            followed += if layer == 0 { 0.0 } else { arriving * (values + rest) };
            let whole = Self { layers: vec![layer], operations: followed, maps: 0.0 };
            let cut = Self::folded_up_to(evaluator, &beginnings, layer, arriving, &best);
            best.extend(once(whole).chain(cut).min_by(|one, other| one.operations.total_cmp(&other.operations)));
        }
        best.pop().unwrap_or(Self { layers: vec![0], operations: 0.0, maps: 0.0 })
    }

    /// Cuts whose last segment ends before `layer`, one for each layer where it can begin.
    fn folded_up_to(
        evaluator: &Evaluator,
        beginnings: &[Vec<Count>],
        layer: usize,
        arriving: Count,
        best: &[Self],
    ) -> impl Iterator<Item = Self> {
        let (values, rest) = evaluator.step();
        let size = evaluator.decoder.config.d_model as f64;
        let weights = evaluator.graph.depth() as f64 * (values + rest) / 2.0;
        let most = MAPS.max(SHARE_OF_WEIGHTS * weights);
        let at_end = beginnings.get(layer).map_or(&[][..], Vec::as_slice);
        let mut ways: Vec<Count> = at_end.iter().map(|count| f64::from(u8::from(*count > 0.0))).collect();
        let mut folding = 0.0;
        (best.iter().zip(beginnings).enumerate().rev()).map_while(move |(start, (before, reached))| {
            let after: Count = ways.iter().sum();
            let mut at_start = vec![0.0; ways.len()];
            for edge in evaluator.graph.edges(start) {
                let (source, target) = (edge.source as usize, edge.target as usize);
                if reached.get(source).is_some_and(|count| *count > 0.0)
                    && let (Some(count), Some(more)) = (at_start.get_mut(source), ways.get(target))
                {
                    *count += more;
                }
            }
            ways = at_start;
            let pieces: Count = ways.iter().sum();
            let maps = pieces * size * size;
            // Through the MLP once per piece behind the layer, along an edge once per piece in front of it.
            folding += size * (after * rest + pieces * values);
            (maps <= most).then(|| Self {
                layers: before.layers.iter().copied().chain([layer]).collect(),
                operations: before.operations + folding + arriving * 2.0 * size * size,
                maps: before.maps + maps,
            })
        })
    }
}

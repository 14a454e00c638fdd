//! The layers where paths are cut into segments. Prefixes up to the first cut are followed layer by layer; the path
//! pieces of every later segment are folded into matrices, each of which serves all paths through it, at one product
//! per path.

use super::prune::Count;
use super::score::Scorer;

/// The most elements of one segment's matrices: this, or for a large model a share of its layers' weights. It bounds
/// the memory for any number of paths.
const ELEMENTS: f64 = (1u64 << 25) as f64;
const SHARE_OF_WEIGHTS: f64 = 0.125;

/// The cuts of least work, and the work of going through all paths with them, without the unembedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Cuts {
    /// The layers before which paths are cut, ascending; the last is the model's depth
    pub layers: Vec<usize>,
    /// Floating-point operations
    pub operations: f64,
    /// Elements of the matrices held
    pub elements: f64,
}

impl Cuts {
    /// The cheapest cuts whose matrices can be held, by dynamic programming over the layer of the last cut.
    pub fn cheapest(scorer: &Scorer) -> Self {
        let (values, rest) = scorer.layer_operations();
        let prefixes = scorer.graph.prefix_counts();
        // The cheapest way to all prefixes that end before each layer.
        let mut best: Vec<Self> = Vec::new();
        let mut followed = 0.0;
        for (layer, reached) in prefixes.iter().enumerate() {
            let arriving = reached.iter().sum::<Count>();
            followed += if layer == 0 { 0.0 } else { arriving * (values + rest) };
            let mut cheapest = Self { layers: vec![layer], operations: followed, elements: 0.0 };
            for cut in Self::folded_up_to(scorer, &prefixes, layer, arriving, &best) {
                if cut.operations.total_cmp(&cheapest.operations).is_lt() {
                    cheapest = cut;
                }
            }
            best.push(cheapest);
        }
        best.swap_remove(scorer.graph.depth())
    }

    /// Cuts whose last segment ends before `layer`, one for each layer where it can start.
    fn folded_up_to(
        scorer: &Scorer,
        prefixes: &[Vec<Count>],
        layer: usize,
        arriving: Count,
        best: &[Self],
    ) -> impl Iterator<Item = Self> {
        let (values, rest) = scorer.layer_operations();
        let size = scorer.map.config().d_model as f64;
        let weights = scorer.graph.depth() as f64 * (values + rest) / 2.0;
        let most = ELEMENTS.max(SHARE_OF_WEIGHTS * weights);
        let mut ways: Vec<Count> = prefixes[layer].iter().map(|count| f64::from(u8::from(*count > 0.0))).collect();
        let mut folding = 0.0;
        (best.iter().zip(prefixes).enumerate().rev()).map_while(move |(start, (before, reached))| {
            let after: Count = ways.iter().sum();
            let mut at_start = vec![0.0; ways.len()];
            for edge in scorer.graph.edges(start) {
                let source = edge.source as usize;
                if reached[source] > 0.0 {
                    at_start[source] += ways[edge.target as usize];
                }
            }
            ways = at_start;
            let pieces: Count = ways.iter().sum();
            let elements = pieces * size * size;
            // Through the MLP once per piece after the layer, along an edge once per piece before it.
            folding += size * (after * rest + pieces * values);
            (elements <= most).then(|| Self {
                layers: before.layers.iter().copied().chain([layer]).collect(),
                operations: before.operations + folding + arriving * 2.0 * size * size,
                elements: before.elements + elements,
            })
        })
    }
}

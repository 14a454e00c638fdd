//! A path's contribution to the logits: the metric of it, and the answer's rank among all tokens.

use std::collections::BTreeMap;
use std::iter::once;

use tch::{Kind, Tensor};

use super::graph::{Graph, Path};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::linear::live::Through;
use crate::linear::map::LinearMap;
use crate::linear::norm::At;
use crate::linear::readout::{Readout, Target};
use crate::parts::in_parts;
use crate::tensor::raw::{numbers, wide};

/// The number of paths computed together, and so the block within which neighbours share work.
pub const TOGETHER: usize = 2048;

/// The most logits held at once, in elements.
const LOGITS: i64 = 1 << 24;

/// What a path contributes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The metric: the answer's logit, unless another was asked for
    pub value: f64,
    /// 1 + the number of tokens to which the path contributes more; None beyond the ranks asked for, and of paths to a
    /// head's score
    pub rank: Option<i64>,
}

impl Score {
    /// The rank of a path whose rank was computed.
    ///
    /// # Errors
    /// The path was abandoned, or leads to a head's score.
    pub fn known_rank(&self) -> Result<i64> {
        self.rank.ok_or_else(|| Error::new("the path has no rank").hint("only paths to a token's logit have ranks"))
    }
}

/// Some paths with their scores.
#[derive(Debug, Default)]
pub struct Scored {
    /// Paths whose rank is known, or that have none, in order
    pub ranked: Vec<(Path, Score)>,
    /// By source, the number of the other paths, which were abandoned, and the sum of their values
    pub abandoned: BTreeMap<u32, (u64, f64)>,
}

impl Scored {
    /// The number of paths.
    pub fn computed(&self) -> u64 {
        self.ranked.len() as u64 + self.abandoned.values().map(|(count, _)| count).sum::<u64>()
    }

    /// Adds paths with their scores; those without a rank count as abandoned, unless `unranked`: none has one.
    pub fn add(&mut self, paths: impl IntoIterator<Item = (Path, Score)>, unranked: bool) {
        for (path, score) in paths {
            if unranked || score.rank.is_some() {
                self.ranked.push((path, score));
            } else {
                let (count, sum) = self.abandoned.entry(path.source).or_default();
                *count += 1;
                *sum += score.value;
            }
        }
    }
}

/// Path prefixes of one length: where they end, and their vectors.
#[derive(Debug)]
pub struct Prefixes {
    /// Where each ends
    pub positions: Vec<u32>,
    /// [row, d_model]
    pub vectors: Tensor,
}

/// Scores the paths of a map's graph in a metric of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Scorer<'a> {
    /// The map that the paths go through
    pub map: &'a LinearMap,
    /// The graph whose paths are scored
    pub graph: &'a Graph,
    /// The metric and its answer
    pub readout: &'a Readout,
    /// Ranks are wanted up to this: a path is abandoned as soon as more tokens are seen to be ahead of the answer,
    /// usually after a small part of the vocabulary
    pub max_rank: Option<i64>,
}

/// Vectors carried along paths.
impl Scorer<'_> {
    /// Whether its paths have no ranks: they lead to a head's score.
    pub fn is_unranked(&self) -> bool {
        matches!(self.readout.target, Target::Score { .. })
    }

    /// Scores paths; sort them first so that neighbours share work.
    ///
    /// # Errors
    /// A path that overflows the model's dtype; interruption.
    pub fn scores(&self, paths: &[Path]) -> Result<Vec<Score>> {
        let scores = in_parts(paths, TOGETHER, |block| {
            let (ends, rows) = self.vectors(block, self.graph.depth())?;
            let distinct = self.read_out(&ends.vectors)?;
            Ok(rows.into_iter().map(|row| distinct[row]).collect::<Vec<_>>())
        })?;
        Ok(scores.concat())
    }

    /// The vectors of paths' prefixes that are `length` edges long, and the row of each path's prefix. Neighbours that
    /// start alike share the work, so sort them first.
    ///
    /// # Errors
    /// Interruption.
    pub fn vectors(&self, paths: &[Path], length: usize) -> Result<(Prefixes, Vec<usize>)> {
        // For each path, 1 + the number of first edges shared with the one before it; 0 if the source differs.
        let differs: Vec<usize> = once(0)
            .chain(paths.windows(2).map(|pair| {
                let (one, next) = (&pair[0], &pair[1]);
                if one.source != next.source {
                    return 0;
                }
                let shared = one.edges.iter().zip(&next.edges).take_while(|(left, right)| left == right).count();
                shared + 1
            }))
            .collect();
        let rows = |length: usize| {
            differs.iter().enumerate().scan(0usize, move |row, (number, differs)| {
                *row += usize::from(number > 0 && *differs <= length);
                Some(*row)
            })
        };
        let sources = paths.iter().zip(&differs).filter(|(_, differs)| **differs == 0).map(|(path, _)| path.source);
        let mut prefixes = self.start(sources.collect())?;
        for layer in 0..length {
            let steps: Vec<(u32, u32)> = (paths.iter().zip(&differs).zip(rows(layer)))
                .filter(|((_, differs), _)| **differs <= layer + 1)
                .map(|((path, _), row)| (row as u32, path.edges[layer]))
                .collect();
            prefixes = self.extend(layer, &prefixes, &steps)?;
        }
        Ok((prefixes, rows(length).collect()))
    }

    /// The prefixes of length 0 at `sources`.
    fn start(&self, sources: Vec<u32>) -> Result<Prefixes> {
        let vectors = self.map.embeddings().f_index_select(0, &self.index(sources.iter().copied())?)?;
        Ok(Prefixes { positions: sources, vectors })
    }

    /// Prefixes one edge longer; `steps` are (row of the prefix, edge).
    fn extend(&self, layer: usize, prefixes: &Prefixes, steps: &[(u32, u32)]) -> Result<Prefixes> {
        interrupt::check()?;
        let part = self.map.layer(layer);
        let here = self.index(prefixes.positions.iter().copied())?;
        let values = part.values(&prefixes.vectors, At::Rows(&here), false)?;
        let row = self.index(steps.iter().map(|(row, _)| *row))?;
        let edges: Vec<u32> = steps.iter().map(|(_, edge)| *edge).collect();
        let (crossing, _) = self.graph.crossing(layer, &edges)?;
        let vectors =
            part.cross(&prefixes.vectors.f_index_select(0, &row)?, &values.f_index_select(0, &row)?, &crossing)?;
        let positions = edges.iter().map(|number| self.graph.edge(layer, *number).target).collect();
        Ok(Prefixes { positions, vectors })
    }

    /// Floating-point operations of one layer on one vector: its values, which all edges from a node share, and the
    /// rest.
    pub fn layer_operations(&self) -> (f64, f64) {
        let config = self.map.config();
        let operations = |width: i64| 2.0 * (config.d_model * width) as f64;
        let width = match self.graph.request.through {
            Through::Values => config.n_kv_heads,
            Through::All => config.n_heads + 2 * config.n_kv_heads,
        };
        let values = operations(width * config.d_head);
        let hidden = config.d_mlp * config.experts.map_or(1, |experts| experts.per_token);
        (values, operations(config.n_heads * config.d_head + 2 * hidden))
    }

    /// Row numbers as an index tensor.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn index(&self, numbers: impl Iterator<Item = u32>) -> Result<Tensor> {
        self.map.index(&numbers.map(i64::from).collect::<Vec<_>>())
    }
}

/// The error for a path whose value is not finite.
pub fn beyond_dtype() -> Error {
    Error::new("a path's contribution overflows the model's dtype").hint("load the model in f32 or bf16")
}

/// Vectors at the end of paths compared with the unembedding.
impl Scorer<'_> {
    /// The scores of paths that have reached the end, [row, d_model].
    ///
    /// # Errors
    /// A vector with infinity or NaN (no token would be ahead of its answer); interruption.
    pub fn read_out(&self, vectors: &Tensor) -> Result<Vec<Score>> {
        let to = self.graph.request.to;
        let kind = wide(vectors.kind());
        let covector = self.readout.covector.f_to_kind(kind)?.f_transpose(0, 1)?;
        let values = numbers(&vectors.f_to_kind(kind)?.f_matmul(&covector)?)?;
        let Target::Answer { id, .. } = &self.readout.target else {
            if values.iter().any(|number| !number.is_finite()) {
                return Err(beyond_dtype());
            }
            return Ok(values.into_iter().map(|value| Score { value, rank: None }).collect());
        };
        let vectors = self.map.frozen().final_norm.linear(vectors, At::Rows(&self.map.index(&[to])?))?;
        let slopes = self.map.logit_slopes(to)?;
        let answer = self.map.index(&[*id])?;
        let answers = self.project(&vectors, &|table| Ok(table.f_index_select(0, &answer)?), slopes.as_ref())?;
        if numbers(&answers)?.iter().chain(&values).any(|number| !number.is_finite()) {
            return Err(beyond_dtype());
        }
        let mut ahead = vec![0i64; values.len()];
        let mut open: Vec<i64> = (0..values.len() as i64).collect();
        for part in parts(self.map.config().d_vocab_out, self.max_rank) {
            interrupt::check()?;
            let index = self.map.index(&open)?;
            let (vectors, answers) = (vectors.f_index_select(0, &index)?, answers.f_index_select(0, &index)?);
            let more = self.count_ahead(&vectors, (*id, &answers), part, slopes.as_ref())?;
            for (row, more) in open.iter().zip(more) {
                ahead[*row as usize] += more as i64;
            }
            if let Some(most) = self.max_rank {
                open.retain(|row| ahead[*row as usize] < most);
            }
        }
        let rank = |ahead: i64| Some(1 + ahead).filter(|rank| self.max_rank.is_none_or(|most| *rank <= most));
        Ok(values.into_iter().zip(ahead).map(|(value, ahead)| Score { value, rank: rank(ahead) }).collect())
    }

    /// For each vector, the number of tokens of a part of the vocabulary with a larger logit than its answer's.
    fn count_ahead(
        &self,
        vectors: &Tensor,
        (answer, answers): (i64, &Tensor),
        (first, stride): (i64, i64),
        slopes: Option<&Tensor>,
    ) -> Result<Vec<f64>> {
        let every = |table: &Tensor| -> Result<Tensor> { Ok(table.f_slice(0, first, None::<i64>, stride)?) };
        let rows = vectors.size()[0];
        let step = (LOGITS * stride / self.map.config().d_vocab_out).max(1);
        let rows: Vec<i64> = (0..rows).collect();
        let counts = in_parts(&rows, step as usize, |rows| {
            let (start, count) = (rows[0], rows.len() as i64);
            let mut logits = self.project(&vectors.f_narrow(0, start, count)?, &every, slopes)?;
            let own = answers.f_narrow(0, start, count)?;
            if answer % stride == first {
                // Products of other sizes round differently: the answer must not be ahead of itself.
                logits.f_narrow(1, answer / stride, 1)?.f_copy_(&own)?;
            }
            // In place, and summed as floats, which is exact for counts this small: several times as fast as with
            // integers.
            numbers(&logits.f_gt_tensor_(&own)?.f_sum_dim_intlist(1, false, None::<Kind>)?)
        })?;
        Ok(counts.concat())
    }

    /// Logits of some tokens, those that `pick` takes from a table by token, in float32 at least.
    fn project(
        &self,
        vectors: &Tensor,
        pick: &dyn Fn(&Tensor) -> Result<Tensor>,
        slopes: Option<&Tensor>,
    ) -> Result<Tensor> {
        let logits = vectors.f_linear(&pick(&self.map.decoder().unembedding.weight)?, None::<Tensor>)?;
        let logits = match slopes {
            Some(slopes) => logits.f_mul(&pick(slopes)?)?,
            None => logits,
        };
        Ok(logits.f_to_kind(wide(logits.kind()))?)
    }

    /// The sum of all paths' values from each start, without enumerating them.
    ///
    /// # Errors
    /// Interruption.
    pub fn sums(&self) -> Result<Vec<f64>> {
        let request = &self.graph.request;
        let (length, size) = (self.map.length(), self.map.config().d_model);
        let mut covectors = self.map.zeros(&[length, size])?;
        covectors.f_narrow(0, request.to, 1)?.f_copy_(&self.readout.covector)?;
        for layer in (0..self.graph.depth()).rev() {
            interrupt::check()?;
            let part = self.map.layer(layer);
            let (mixed, with_mlp) = part.pull_back(&covectors, At::Prompt)?;
            let mut sums: Vec<Tensor> = Vec::new();
            for position in 0..length as u32 {
                let edges = self.graph.outgoing(layer, position);
                if edges.is_empty() {
                    sums.push(self.map.zeros(&[size])?);
                    continue;
                }
                let (crossing, source) = self.graph.crossing(layer, edges)?;
                let arriving =
                    (mixed.f_index_select(0, &crossing.target)?, with_mlp.f_index_select(0, &crossing.target)?);
                let back = part.cross_transposed((&arriving.0, &arriving.1), &crossing, &source)?;
                sums.push(back.f_sum_dim_intlist(0, false, None)?);
            }
            covectors = Tensor::f_stack(&sums, 0)?;
        }
        let products = covectors.f_mul(self.map.embeddings())?.f_sum_dim_intlist(1, false, None)?;
        let products = numbers(&products)?;
        Ok(request.from.iter().map(|source| products[*source as usize]).collect())
    }
}

/// Parts of the vocabulary, (first token, stride), each spread evenly over it. Where ranks are only wanted up to some
/// rank, the first is small, and every other is as large as all before it.
fn parts(vocabulary: i64, max_rank: Option<i64>) -> Vec<(i64, i64)> {
    let mut stride = 1;
    while max_rank.is_some_and(|most| vocabulary / (4 * stride) >= most.max(1)) {
        stride *= 2;
    }
    let first = (0, stride);
    let strides = std::iter::successors(Some(stride), |stride| Some(stride / 2)).take_while(|stride| *stride > 1);
    once(first).chain(strides.map(|stride| (stride / 2, stride))).collect()
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn the_parts_cover_the_vocabulary_whatever_ranks_are_wanted() {
        for max_rank in [None, Some(0), Some(1), Some(10), Some(i64::MAX)] {
            let mut tokens: Vec<i64> = parts(1000, max_rank)
                .into_iter()
                .flat_map(|(first, stride)| (first..1000).step_by(stride as usize))
                .collect();
            tokens.sort_unstable();
            assert_eq!(tokens, (0..1000).collect::<Vec<_>>(), "{max_rank:?}");
        }
    }
}

//! What paths contribute: their answer's logit and its rank among all tokens. Paths that begin alike share the work.

use std::iter::once;

use tch::{Kind, Tensor};

use super::frozen::{Frozen, numbers, zeros};
use super::graph::{Graph, Path};
use super::norm::At;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::decoder::Decoder;
use crate::tensor::raw::wide;

/// How many paths are computed together. Work that neighbours share is shared within such a block.
pub const TOGETHER: usize = 2048;

/// The most logits held at once, in elements.
const LOGITS: i64 = 1 << 24;

/// What a path contributes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Of the answer
    pub logit: f64,
    /// 1 + the number of tokens to which the path contributes more; None where it lies beyond what was asked for
    pub rank: Option<i64>,
}

/// A map, a graph of it and an answer.
#[derive(Debug, Clone, Copy)]
pub struct Evaluator<'a> {
    pub decoder: &'a Decoder,
    pub frozen: &'a Frozen,
    pub graph: &'a Graph,
    pub answer: i64,
    /// Ranks are only wanted up to this: a path is given up as soon as more tokens than that are seen to be ahead of the
    /// answer, usually after a small part of the vocabulary
    pub max_rank: Option<i64>,
}

/// Beginnings of paths, all of one length: where they stand, and their vectors.
#[derive(Debug)]
pub struct Beginnings {
    pub positions: Vec<u32>,
    /// [row, d_model]
    pub vectors: Tensor,
}

impl Evaluator<'_> {
    /// The beginnings of length 0 at `sources`.
    pub fn start(&self, sources: Vec<u32>) -> Result<Beginnings> {
        let vectors = self.frozen.embeddings()?.f_index_select(0, &self.index(sources.iter().copied())?)?;
        Ok(Beginnings { positions: sources, vectors })
    }

    /// Beginnings one edge longer: `steps` are (row of the beginning, edge).
    pub fn extend(&self, layer: usize, beginnings: &Beginnings, steps: &[(u32, u32)]) -> Result<Beginnings> {
        interrupt::check()?;
        let part = self.frozen.at(self.decoder, layer)?;
        let here = self.index(beginnings.positions.iter().copied())?;
        let values = part.values(&beginnings.vectors, At::Rows(&here), false)?;
        let row = self.index(steps.iter().map(|(row, _)| *row))?;
        let edges: Vec<u32> = steps.iter().map(|(_, edge)| *edge).collect();
        let (crossing, _) = self.graph.crossing(layer, &edges)?;
        let vectors =
            part.cross(&beginnings.vectors.f_index_select(0, &row)?, &values.f_index_select(0, &row)?, &crossing)?;
        let positions =
            edges.iter().map(|number| Ok(self.graph.edge(layer, *number)?.target)).collect::<Result<_>>()?;
        Ok(Beginnings { positions, vectors })
    }

    /// Scores of paths that are sorted (or else share less).
    pub fn scores(&self, paths: &[Path]) -> Result<Vec<Score>> {
        let mut scores = Vec::with_capacity(paths.len());
        for block in paths.chunks(TOGETHER) {
            scores.extend(self.block(block)?);
        }
        Ok(scores)
    }

    fn block(&self, paths: &[Path]) -> Result<Vec<Score>> {
        if paths.iter().any(|path| path.edges.len() != self.graph.depth()) {
            return Err(Error::new("a path is not as long as the model is deep"));
        }
        let (ends, rows) = self.vectors(paths, self.graph.depth())?;
        let scores = self.read_out(&ends.vectors)?;
        Ok(rows.into_iter().filter_map(|row| scores.get(row).copied()).collect())
    }

    /// The vectors of paths (or beginnings of them) that are `length` edges long, and which row is each one's. Neighbours that
    /// begin alike share the work, so that they had better be sorted.
    pub fn vectors(&self, paths: &[Path], length: usize) -> Result<(Beginnings, Vec<usize>)> {
        // From how many edges on each path differs from the one before it; 0 is another source.
        let differs: Vec<usize> = once(0)
            .chain(paths.iter().zip(paths.iter().skip(1)).map(|(one, next)| {
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
        let mut beginnings = self.start(sources.collect())?;
        for layer in 0..length {
            let steps: Vec<(u32, u32)> = (paths.iter().zip(&differs).zip(rows(layer)))
                .filter(|((_, differs), _)| **differs <= layer + 1)
                .filter_map(|((path, _), row)| Some((row as u32, *path.edges.get(layer)?)))
                .collect();
            beginnings = self.extend(layer, &beginnings, &steps)?;
        }
        Ok((beginnings, rows(length).collect()))
    }

    /// Floating-point operations of one layer on one vector: its values, which all edges from a node share, and the rest.
    pub fn step(&self) -> (f64, f64) {
        let config = &self.decoder.config;
        let operations = |width: i64| 2.0 * (config.d_model * width) as f64;
        let values = operations(config.n_kv_heads * config.d_head);
        (values, operations(config.n_heads * config.d_head + 2 * config.d_mlp))
    }

    /// The scores of paths that have arrived, [row, d_model].
    ///
    /// # Errors
    /// A vector that holds infinities or NaN: nothing would be ahead of its answer.
    pub fn read_out(&self, vectors: &Tensor) -> Result<Vec<Score>> {
        let to = self.graph.request.to;
        let position = Tensor::f_from_slice(&[to])?.f_to(self.decoder.device)?;
        let vectors = self.frozen.final_norm.linear(vectors, At::Rows(&position))?;
        let secants = self.frozen.cap(self.decoder, to)?;
        let answer = Tensor::f_from_slice(&[self.answer])?.f_to(self.decoder.device)?;
        let answers = self.project(&vectors, &|table| Ok(table.f_index_select(0, &answer)?), secants.as_ref())?;
        let logits = numbers(&answers)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::new("a path's contribution is beyond the numbers of the model's dtype")
                .hint("load the model in f32 or bf16"));
        }
        let mut ahead = vec![0i64; logits.len()];
        let mut open: Vec<i64> = (0..logits.len() as i64).collect();
        for (first, stride) in parts(self.decoder.config.d_vocab, self.max_rank) {
            interrupt::check()?;
            let every = |table: &Tensor| -> Result<Tensor> { Ok(table.f_slice(0, first, None::<i64>, stride)?) };
            let index = Tensor::f_from_slice(&open)?.f_to(self.decoder.device)?;
            let (vectors, answers) = (vectors.f_index_select(0, &index)?, answers.f_index_select(0, &index)?);
            let step = (LOGITS * stride / self.decoder.config.d_vocab.max(1)).max(1) as usize;
            for (number, rows) in open.chunks(step).enumerate() {
                let (start, count) = ((number * step) as i64, rows.len() as i64);
                let mut logits = self.project(&vectors.f_narrow(0, start, count)?, &every, secants.as_ref())?;
                let own = answers.f_narrow(0, start, count)?;
                if self.answer % stride == first {
                    // Products of other sizes round otherwise: the answer must not be ahead of itself.
                    logits.f_narrow(1, self.answer / stride, 1)?.f_copy_(&own)?;
                }
                // In place, and summed as floats, which is exact for so few: several times as fast as through integers.
                let more = logits.f_gt_tensor_(&own)?.f_sum_dim_intlist(1, false, None::<Kind>)?;
                for (row, more) in rows.iter().zip(numbers(&more)?) {
                    if let Some(ahead) = ahead.get_mut(*row as usize) {
                        *ahead += more as i64;
                    }
                }
            }
            if let Some(most) = self.max_rank {
                open.retain(|row| ahead.get(*row as usize).is_some_and(|ahead| *ahead < most));
            }
        }
        let rank = |ahead: i64| Some(1 + ahead).filter(|rank| self.max_rank.is_none_or(|most| *rank <= most));
        Ok(logits.into_iter().zip(ahead).map(|(logit, ahead)| Score { logit, rank: rank(ahead) }).collect())
    }

    /// Logits of some tokens, those that `pick` takes from a table by token, in float32 at least.
    fn project(
        &self,
        vectors: &Tensor,
        pick: &dyn Fn(&Tensor) -> Result<Tensor>,
        secants: Option<&Tensor>,
    ) -> Result<Tensor> {
        let logits = vectors.f_linear(&pick(&self.decoder.unembedding.weight)?, None::<Tensor>)?;
        let logits = match secants {
            Some(secants) => logits.f_mul(&pick(secants)?)?,
            None => logits,
        };
        Ok(logits.f_to_kind(wide(logits.kind()))?)
    }

    /// The sum of the answer's logits over all paths from each start, without going through them one by one.
    pub fn sums(&self) -> Result<Vec<f64>> {
        let request = &self.graph.request;
        let readout = self.frozen.readout(self.decoder, request.to, &[self.answer])?;
        let mut covectors = zeros(self.decoder, &[self.frozen.length(), self.decoder.config.d_model])?;
        covectors.f_narrow(0, request.to, 1)?.f_copy_(&readout)?;
        for layer in (0..self.graph.depth()).rev() {
            interrupt::check()?;
            let part = self.frozen.at(self.decoder, layer)?;
            let (mixed, with_mlp) = part.pull_back(&covectors, At::Prompt)?;
            let mut sums: Vec<Tensor> = Vec::new();
            for position in 0..self.frozen.length() as u32 {
                let edges = self.graph.outgoing(layer, position);
                if edges.is_empty() {
                    sums.push(zeros(self.decoder, &[self.decoder.config.d_model])?);
                    continue;
                }
                let (crossing, source) = self.graph.crossing(layer, edges)?;
                let gathered =
                    (mixed.f_index_select(0, &crossing.target)?, with_mlp.f_index_select(0, &crossing.target)?);
                let back = part.cross_transposed((&gathered.0, &gathered.1), &crossing, &source)?;
                sums.push(back.f_sum_dim_intlist(0, false, None)?);
            }
            covectors = Tensor::f_stack(&sums, 0)?;
        }
        let products = covectors.f_mul(self.frozen.embeddings()?)?.f_sum_dim_intlist(1, false, None)?;
        let products = numbers(&products)?;
        Ok(request.from.iter().map(|source| products.get(*source as usize).copied().unwrap_or(0.0)).collect())
    }

    /// Numbers as an index tensor.
    pub fn index(&self, numbers: impl Iterator<Item = u32>) -> Result<Tensor> {
        let numbers: Vec<i64> = numbers.map(i64::from).collect();
        Ok(Tensor::f_from_slice(&numbers)?.f_to(self.decoder.device)?)
    }
}

/// Parts of the vocabulary, (first token, stride), each spread evenly over it. Where ranks are only wanted up to some rank, the
/// first is small, and every other is as large as all before it.
fn parts(vocabulary: i64, max_rank: Option<i64>) -> Vec<(i64, i64)> {
    let mut stride = 1;
    while max_rank.is_some_and(|most| vocabulary / (2 * stride) >= 2 * most.max(1)) {
        stride *= 2;
    }
    let first = (0, stride);
    let strides = std::iter::successors(Some(stride), |stride| Some(stride / 2)).take_while(|stride| *stride > 1);
    once(first).chain(strides.map(|stride| (stride / 2, stride))).collect()
}

//! Tables of nodes' scores.

use std::collections::HashSet;

use super::attribute::Computed;
use crate::attribution::agreement::descending;
use crate::attribution::node_scores::{Place, Verified};
use crate::attribution::replacement::Sample;
use crate::data::table::{Cell, Table};
use crate::error::{Error, Result};
use crate::model::hook::HookPoint;

/// A place with its exact effect.
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// The place
    pub place: Place,
    /// Its exact effect
    pub exact: f64,
    /// Whether chance chose it
    pub is_drawn: bool,
    /// Whether its effect is large and its score small
    pub is_miss: bool,
}

impl Computed {
    /// The cells that say which node a row is about.
    fn node(&self, node: usize) -> Vec<(String, Cell)> {
        let node = &self.scored.nodes[node];
        let HookPoint { layer, .. } = node.point();
        vec![
            ("node".to_owned(), Cell::Text(node.name(self.call.model.get().config()))),
            ("hook".to_owned(), Cell::Text(node.point().name())),
            ("layer".to_owned(), Cell::Integer(layer)),
            ("head".to_owned(), node.element.head.map_or(Cell::Empty, Cell::Integer)),
        ]
    }

    /// The position, and the token there, of a column in some samples; blank where they differ. Of several prompts of
    /// different lengths, positions count from the end.
    fn position(&self, samples: &[usize], column: usize) -> Result<Vec<(String, Cell)>> {
        let scored = &self.scored;
        let run = |sample: &usize| &scored.samples[*sample];
        let is_of_end = samples.windows(2).any(|pair| run(&pair[0]).run.len() != run(&pair[1]).run.len());
        let mut positions = Vec::new();
        let mut tokens = Vec::new();
        for sample in samples {
            let Some(position) = scored.position(*sample, column) else { continue };
            let Sample { run, position: given, .. } = run(sample);
            positions.push(if is_of_end && given.is_none() { position - run.len() as i64 } else { position });
            tokens.push(run[position as usize]);
        }
        let same = |values: &[i64]| match values {
            [first, rest @ ..] if rest.iter().all(|value| value == first) => Some(*first),
            _ => None,
        };
        let model = self.call.model.get();
        let token = match same(&tokens).filter(|_| model.has_tokenizer()) {
            Some(id) => model.tokens(&[id])?.into_iter().next().map_or(Cell::Empty, Cell::Text),
            None => Cell::Empty,
        };
        let position = same(&positions).map_or(Cell::Empty, Cell::Integer);
        Ok(vec![("position".to_owned(), position), ("token".to_owned(), token)])
    }

    /// The nodes and positions with the largest mean scores.
    ///
    /// # Errors
    /// A tokenizer's error.
    pub fn top(&self, count: usize) -> Result<Table> {
        let mut table = Table::plain(&[
            ("node", None),
            ("hook", None),
            ("layer", None),
            ("head", None),
            ("position", None),
            ("token", None),
            ("score", Some("+.4")),
        ])?;
        let means = self.scored.means();
        let sizes: Vec<f64> = means.iter().map(|mean| if mean.is_nan() { -1.0 } else { mean.abs() }).collect();
        let samples: Vec<usize> = (0..self.scored.samples.len()).collect();
        for place in descending(&sizes).into_iter().filter(|place| !means[*place].is_nan()).take(count) {
            let (node, at) = (place / self.scored.columns, place % self.scored.columns);
            let score = [("score".to_owned(), Cell::Float(means[place]))];
            table.push([self.node(node), self.position(&samples, at)?, score.to_vec()].concat())?;
        }
        Ok(table)
    }

    /// Places with their scores and exact effects.
    ///
    /// # Errors
    /// A tokenizer's error.
    pub fn compared(&self, rows: impl Iterator<Item = Compared>) -> Result<Table> {
        let mut table = Table::plain(&[
            ("node", None),
            ("hook", None),
            ("layer", None),
            ("head", None),
            ("sample", None),
            ("position", None),
            ("token", None),
            ("estimated", Some("+.4")),
            ("exact", Some("+.4")),
            ("drawn", None),
            ("miss", None),
        ])?;
        for Compared { place, exact, is_drawn, is_miss } in rows {
            let values = vec![
                ("sample".to_owned(), Cell::Integer(place.sample as i64)),
                ("estimated".to_owned(), Cell::Float(self.scored.score(place))),
                ("exact".to_owned(), Cell::Float(exact)),
                ("drawn".to_owned(), Cell::Bool(is_drawn)),
                ("miss".to_owned(), Cell::Bool(is_miss)),
            ];
            table.push([self.node(place.node), self.position(&[place.sample], place.column)?, values].concat())?;
        }
        Ok(table)
    }

    /// What verification found.
    ///
    /// # Errors
    /// Scores that were not verified.
    pub fn verified(&self) -> Result<&Verified> {
        self.verified.as_ref().ok_or_else(|| {
            Error::new("the scores were not verified").hint("model.attribute(#{ .., verify: 20 }), or `agreement()`")
        })
    }

    /// The places that were verified, or the misses among them, the largest effect first.
    ///
    /// # Errors
    /// Scores that were not verified; a tokenizer's error.
    pub fn verified_table(&self, only_misses: bool) -> Result<Table> {
        let verified = self.verified()?;
        let misses = &verified.agreement.misses;
        let row = |number: usize, is_miss: bool| Compared {
            place: verified.places[number],
            exact: verified.exact[number],
            is_drawn: number < verified.drawn,
            is_miss,
        };
        if only_misses {
            return self.compared(misses.iter().map(|number| row(*number, true)));
        }
        let misses: HashSet<usize> = misses.iter().copied().collect();
        self.compared((0..verified.places.len()).map(|number| row(number, misses.contains(&number))))
    }
}

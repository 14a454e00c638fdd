//! The map's predictions of patching grids in scripts.

use rhai::plugin::*;
use rhai::{Dynamic, Map};
use tch::Kind;

use super::metric::{self, Asked};
use super::{Linear, WITHOUT_HOOKS};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::model::prompts;
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::grid::digest::digest;
use crate::grid::measured::{Cell, Measured};
use crate::grid::metric::Metric;
use crate::grid::request::Reference;
use crate::grid::target::{Target, against};
use crate::grid::{frozen, plain};
use crate::linear::readout::Scale;
use crate::model::hook::Site;
use crate::tensor::Tensor;
use crate::tensor::raw::numbers;

/// What a call asks for.
struct Call {
    answer: i64,
    position: i64,
    to: i64,
    /// The source's tokens; none where vectors are given
    source: Option<Vec<i64>>,
    /// One [d_model] per layer
    vectors: Vec<tch::Tensor>,
    asked: Asked,
    /// Whether the metrics were given as an array
    several: bool,
}

impl Call {
    fn read(linear: &Linear, options: &mut Options) -> Result<Self> {
        let position = linear.map.position(options.integer("position")?.unwrap_or(0))?;
        let (source, vectors) = (options.any("source"), options.array("vectors")?);
        let (answer, to) = (linear.answer(options)?, linear.to(options)?);
        let metric = options.any("metric").unwrap_or_else(|| Scale::Logit.name().into());
        let several = metric.is_array();
        let asked = linear.metrics(metric, answer)?;
        let model = linear.model.get();
        let (source, vectors) = match (source, vectors) {
            (Some(source), None) => match prompts(model, &source)?.as_slice() {
                [row] => (Some(row.clone()), digest(&model.decoder, row, Site::ResidPost)?),
                rows => {
                    return Err(Error::new(format!("`predict_grid` takes one source, and {} were given", rows.len())));
                }
            },
            (None, Some(vectors)) => {
                let own = |value: &Dynamic| match value.read_lock::<Tensor>() {
                    Some(vector) => linear.own_vector("one of option `vectors`", &vector),
                    None => Err(expected("each item of option `vectors`", "a tensor [d_model]", value)),
                };
                (None, vectors.iter().map(own).collect::<Result<Vec<_>>>()?)
            }
            _ => {
                return Err(Error::new("`predict_grid` needs either `source` or `vectors`").hint(
                    "`source`: tokens or text, whose last token's residual is patched in; `vectors`: one tensor per \
                     layer",
                ));
            }
        };
        Ok(Self { answer, position, to, source, vectors, asked, several })
    }

    /// What the last logits are measured by.
    fn target(&self, linear: &Linear) -> Result<Target<'static>> {
        let answers = [vec![self.answer]];
        let mut target = Target::answers(&answers)?;
        let needs = &self.asked.needs;
        if !needs.against.is_empty() {
            target.against = Some(against(&answers, &needs.against)?);
        }
        if let Some(reference) = needs.reference {
            let own = &linear.map.tokens()[..=self.to as usize];
            let prompt = match (reference, &self.source) {
                (Reference::Target, _) => own.to_vec(),
                (Reference::Clean, Some(source)) => [source, own].concat(),
                (Reference::Clean, None) => {
                    return Err(Error::new(
                        "the reference \"clean\" is the run of source and target together, but vectors have no source \
                         text",
                    )
                    .hint("give `source` instead of `vectors`, or the reference \"target\""));
                }
            };
            target.reference = Some(plain::log_probabilities(&linear.model.get().decoder, &[prompt])?);
        }
        Ok(target)
    }

    /// The effects on a metric, [layer, layer], from the cells of `sets` and of the run without patches.
    fn square(sets: &[Vec<usize>], cells: &(Vec<Cell>, Cell), depth: usize, metric: Metric) -> Result<tch::Tensor> {
        let values = |cells: &[Cell]| Measured::of_cells(cells)?.values(metric, None);
        let effects = values(&cells.0)?.f_sub(&values(&[cells.1])?)?;
        let mut square = vec![f64::NAN; depth * depth];
        for (set, effect) in sets.iter().zip(numbers(&effects)?) {
            square[set[0] * depth + set[set.len() - 1]] = effect;
        }
        Ok(tch::Tensor::f_from_slice(&square)?.f_view([depth as i64, depth as i64])?)
    }

    fn run(&self, linear: &Linear) -> Result<Dynamic> {
        let map = &linear.map;
        let depth = map.depth();
        let sets: Vec<Vec<usize>> = (0..depth)
            .flat_map(|first| {
                (first..depth).map(move |last| if first == last { vec![first] } else { vec![first, last] })
            })
            .collect();
        let mut cells = None;
        let mut grids = Map::new();
        for metric in &self.asked.metrics {
            let linear_scale = metric::scale(*metric, &self.asked.needs.against.concat());
            let grid = match linear_scale.filter(|scale| *scale != Scale::LogProbability) {
                Some(scale) => {
                    let readout = map.readout(self.answer, scale, self.to)?;
                    map.predict_grid(&self.vectors, &readout, self.position)?
                }
                None => {
                    let cells = match &mut cells {
                        Some(known) => known,
                        none => none.insert(frozen::cells(
                            map,
                            &sets,
                            &self.vectors,
                            self.position,
                            self.to,
                            &self.target(linear)?,
                        )?),
                    };
                    Self::square(&sets, cells, depth, *metric)?
                }
            };
            let grid = Dynamic::from(Tensor::new(grid.f_to_kind(Kind::Double)?));
            if !self.several {
                return Ok(grid);
            }
            grids.insert(metric.name().into(), grid);
        }
        Ok(grids.into())
    }
}

#[export_module(manifest)]
pub mod functions {
    /// Predicts the effect of patching a source's last residuals into each layer and each pair of layers at one
    /// position.
    ///
    /// Returns the change of the metric, [layer, layer]: single layers on the diagonal, pairs above it, NaN below. The
    /// model's own effect is `patch_grid(..).matrix(metric)` with the same source, target and position. In the map a
    /// second patch only overwrites what the first has changed at its node.
    ///
    /// Options: `source` (tokens or text) or `vectors` (one [d_model] per layer), `answer`, `position` (0), `to` (-1),
    /// `metric`: a name or a map as in `patch_grid`, `"logit"` by default; an array of them gives a map from name to
    /// tensor. `logit`, `logit_difference` and `centred_logit` are linear in the logits and take one backward and one
    /// forward pass for all pairs. For the others the map predicts all logits of every pair, and effects are the
    /// prediction's value minus the unpatched run's.
    ///
    /// # Example
    /// ```rhai
    /// let lin = load_model("smollm2").linearize("; big,");
    /// let predicted = lin.predict_grid(#{ source: "; short, shorter; loud, louder", answer: " bigger" });
    /// print(predicted[0, 5]);
    /// let metrics = ["logit", "log_probability"];
    /// let both = lin.predict_grid(#{ source: "; short, shorter", answer: " bigger", metric: metrics });
    /// print(both.log_probability[0, 5]);
    /// ```
    #[rhai_fn(name = "predict_grid", return_raw, pure)]
    pub fn predict_grid_of(linear: &mut Linear, request: Map) -> ScriptResult<Dynamic> {
        let call = Options::read("predict_grid", request, |options| Call::read(linear, options))?;
        Ok(call.run(linear).map_err(|error| error.hint(WITHOUT_HOOKS))?)
    }
}

//! Edge attribution patching: estimates of what an edge's corruption does, from gradients.

use tch::{Kind, Tensor};

use super::alternative::{Ablation, Part, parts};
use super::graph::{Edge, Graph, Source};
use super::pairs::Pairs;
use super::rule::Rule;
use super::{pull_back, written};
use crate::error::{Error, Result};
use crate::grid::objective::Objective;
use crate::interrupt;
use crate::model::backward::Backward;
use crate::model::config::NormPlacement;
use crate::model::decoder::{Decoder, Logits};
use crate::model::forward::Start;
use crate::model::gradient::Gradients;
use crate::model::hook::{HookPoint, Site};
use crate::model::intervention::{At, Change, Intervention};
use crate::model::run::{Action, Hooks};
use crate::tensor::raw::{Arithmetic, wide};

/// How edges are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Gradients of the clean run (EAP)
    Clean,
    /// The mean of those of the clean and the corrupted run
    CleanCorrupted,
    /// The mean over runs whose embedded tokens lie between the two (EAP-IG-inputs, arXiv 2403.17806)
    Inputs {
        /// Number of runs
        steps: i64,
        /// Where
        rule: Rule,
    },
    /// The mean over clean runs in which what one place writes lies between the two: the embedded tokens, all heads of a
    /// layer or its MLP, one after the other (EAP-IG-activations)
    Activations {
        /// Number of runs for each place
        steps: i64,
        /// Where
        rule: Rule,
    },
}

/// Estimates of m(edge corrupted) - m(clean), float64 [sample, edge]: what the source would carry less what it carries,
/// times the gradient of the metric at what the destination reads.
///
/// # Errors
/// As for runs of the decoder; see [`parts`]; a mean over two runs where no run is the other one; a metric that depends on
/// no destination, gradients that are not finite; Ctrl-C.
pub fn scores(
    decoder: &Decoder,
    graph: &Graph,
    pairs: &Pairs,
    objective: &Objective,
    (method, ablation, backward): (Method, Ablation, Backward),
) -> Result<Tensor> {
    if method == Method::CleanCorrupted && matches!(ablation, Ablation::Zero | Ablation::Mean) {
        return Err(Error::new(format!(
            "\"clean-corrupted\" is the mean over two runs, and with ablation \"{}\" there is one",
            ablation.name()
        )));
    }
    let rows =
        Tensor::f_zeros([pairs.samples as i64, graph.edges.len() as i64], (Kind::Double, decoder.output_device()))?;
    for part in parts(decoder, graph, pairs, ablation)? {
        let alternative = part.alternative(decoder)?;
        let clean = written::of_run(decoder, &part.group.clean)?;
        let run = Run { decoder, graph, objective, part: &part, clean, alternative, backward };
        let samples: Vec<i64> = part.group.samples.iter().map(|sample| *sample as i64).collect();
        let samples = Tensor::f_from_slice(&samples)?.f_to(decoder.output_device())?;
        let _ = rows.shallow_clone().f_index_copy_(0, &samples, &run.scores(method)?)?;
    }
    Ok(rows)
}

struct Run<'a> {
    decoder: &'a Decoder,
    graph: &'a Graph,
    objective: &'a Objective<'a>,
    part: &'a Part,
    /// What sources add in the clean runs, [source, batch, pos, d_model]
    clean: Tensor,
    /// What they would add
    alternative: Tensor,
    backward: Backward,
}

impl Run<'_> {
    fn scores(&self, method: Method) -> Result<Tensor> {
        let difference = self.alternative.f_sub(&self.clean)?;
        let difference = difference.f_to_kind(wide(difference.kind()))?;
        let mut sum: Option<Tensor> = None;
        let mut runs = 0;
        let mut add = |hooks: Hooks| -> Result<()> {
            interrupt::check()?;
            let own = self.of_run(hooks, &difference)?;
            sum = Some(match sum.take() {
                Some(sum) => sum.f_add(&own)?,
                None => own,
            });
            runs += 1;
            Ok(())
        };
        match method {
            Method::Clean => add(self.hooks())?,
            Method::CleanCorrupted => {
                add(self.hooks())?;
                add(self.between(Source::Input, 0.0)?)?;
            }
            Method::Inputs { steps, rule } => {
                for t in rule.places(steps) {
                    add(self.between(Source::Input, t)?)?;
                }
            }
            Method::Activations { steps, rule } => {
                for place in self.places() {
                    for t in rule.places(steps) {
                        add(self.between(place, t)?)?;
                    }
                }
            }
        }
        let sum = match sum {
            Some(sum) => sum,
            None => unreachable!("there is at least one run"),
        };
        sum.over(f64::from(runs))
    }

    fn hooks(&self) -> Hooks<'static> {
        Hooks::with_backward(self.backward)
    }

    /// The embedded tokens, and of each layer its heads, named by the first, and its MLP.
    fn places(&self) -> Vec<Source> {
        let first = |source: &Source| !matches!(source, Source::Head { head, .. } if *head > 0);
        self.graph.sources.iter().copied().filter(first).collect()
    }

    /// A clean run in which what `place` writes (all heads of its layer) is at `t` between the two.
    fn between(&self, place: Source, t: f64) -> Result<Hooks<'static>> {
        let mut hooks = self.hooks();
        let first = self.graph.source(place) as i64;
        let mix = |start: i64, count: i64| -> Result<Tensor> {
            let clean = self.clean.f_narrow(0, start, count)?.times(t)?;
            Ok(clean.f_add(&self.alternative.f_narrow(0, start, count)?.times(1.0 - t)?)?)
        };
        let (site, layer, value) = match place {
            Source::Input => (Site::Embed, 0, mix(first, 1)?.f_squeeze_dim(0)?),
            Source::Mlp { layer } => (Site::MlpOut, layer, mix(first, 1)?.f_squeeze_dim(0)?),
            // After a norm, what heads add is known only together.
            Source::Head { layer, .. } if self.decoder.config.norm_placement != NormPlacement::Pre => {
                let sum = mix(first, self.graph.n_heads)?.f_sum_dim_intlist(0, false, self.decoder.kind)?;
                (Site::AttentionOut, layer, sum)
            }
            Source::Head { layer, .. } => {
                (Site::HeadResult, layer, mix(first, self.graph.n_heads)?.f_permute([1, 2, 0, 3])?)
            }
        };
        let point = HookPoint { site, layer };
        let change = Change::Patch(value);
        hooks.intervene(
            &self.decoder.config,
            Intervention { point, positions: At::All, rows: None, head: None, change },
        );
        Ok(hooks)
    }

    /// The scores by one run's gradients, float64 [sample, edge].
    fn of_run(&self, mut hooks: Hooks, difference: &Tensor) -> Result<Tensor> {
        let (decoder, graph) = (self.decoder, self.graph);
        hooks.add(&decoder.config, pull_back::captured(decoder), "what is read", Action::Capture);
        let places = [("every destination".to_owned(), pull_back::watched(decoder))];
        let start = Start::Tokens(&self.part.group.clean);
        let run: Gradients = decoder.gradients(start, Logits::Last, &places, hooks, |logits| {
            self.objective.of(&logits.f_squeeze_dim(1)?, &self.part.group.samples)
        })?;
        let batch = self.part.group.samples.len() as i64;
        let size = [graph.sources.len() as i64, graph.destinations.len() as i64, batch];
        let table = Tensor::f_zeros(size, (Kind::Double, decoder.output_device()))?;
        for group in pull_back::groups(decoder, graph, &run, self.backward) {
            let pull_back::Group { first, gradient } = group?;
            let reach = graph.reach(first) as i64;
            let own = Tensor::f_einsum(
                "sbpm,bpdm->sdb",
                &[
                    &difference.f_narrow(0, 0, reach)?,
                    &gradient.f_to_device_(difference.device(), difference.kind(), false, false)?,
                ],
                None::<i64>,
            )?;
            let mut place = table.f_narrow(0, 0, reach)?.f_narrow(1, first as i64, own.size()[1])?;
            place.f_copy_(&own)?;
        }
        of_edges(&table, graph)
    }
}

/// The numbers of the edges, [sample, edge], from a table [source, destination, sample].
fn of_edges(table: &Tensor, graph: &Graph) -> Result<Tensor> {
    let width = graph.destinations.len();
    let place = |edge: &Edge| (edge.source * width + edge.destination) as i64;
    let places = Tensor::f_from_slice(&graph.edges.iter().map(place).collect::<Vec<_>>())?.f_to(table.device())?;
    Ok(table.f_flatten(0, 1)?.f_index_select(0, &places)?.f_transpose(0, 1)?)
}

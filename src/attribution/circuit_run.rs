//! Runs of a circuit: every edge outside carries another value than its source's, every edge inside what its source computes
//! in this very run.

use std::cell::RefCell;
use std::rc::Rc;

use tch::{Device, Tensor};

use super::alternative::{Ablation, Part, parts};
use super::circuit::Circuit;
use super::graph::{Graph, Letter, Source};
use super::pairs::Pairs;
use super::written;
use crate::error::{Error, Result};
use crate::grid::objective::Objective;
use crate::interrupt;
use crate::model::decoder::{Decoder, Logits};
use crate::model::forward::Start;
use crate::model::hook::{HookPoint, Site};
use crate::model::layer::Norm;
use crate::model::run::{Action, Callback, Hooks};

/// Numbers of ablated values that are kept from one circuit to the next.
const NUMBERS: usize = 1 << 28;

/// Samples with what ablated edges carry, ready to run any circuit.
pub struct Evaluator<'a> {
    decoder: &'a Decoder,
    graph: &'a Graph,
    objective: &'a Objective<'a>,
    samples: usize,
    /// With what every source carries where it is ablated, as far as memory is set aside for it
    parts: Vec<(Part, Option<Tensor>)>,
}

impl<'a> Evaluator<'a> {
    /// Runs what the ablation needs.
    ///
    /// # Errors
    /// As for [`parts`] and runs of the decoder.
    pub fn new(
        decoder: &'a Decoder,
        graph: &'a Graph,
        pairs: &Pairs,
        objective: &'a Objective<'a>,
        ablation: Ablation,
    ) -> Result<Self> {
        let mut left = NUMBERS;
        let mut with_values = |part: Part| -> Result<(Part, Option<Tensor>)> {
            if left == 0 {
                return Ok((part, None));
            }
            let values = part.alternative(decoder)?;
            left = left.saturating_sub(values.numel());
            Ok((part, Some(values)))
        };
        let parts = parts(decoder, graph, pairs, ablation)?.into_iter().map(&mut with_values).collect::<Result<_>>()?;
        Ok(Self { decoder, graph, objective, samples: pairs.samples, parts })
    }

    /// The metric of the circuit, after what leads nowhere is dropped, for each sample.
    ///
    /// # Errors
    /// As for runs of the decoder; Ctrl-C.
    pub fn metrics(&self, circuit: &Circuit) -> Result<Vec<f64>> {
        self.whole(&circuit.pruned(self.graph))
    }

    /// The metric of the circuit as it is, for each sample.
    ///
    /// # Errors
    /// As for [`Evaluator::metrics`].
    pub fn whole(&self, circuit: &Circuit) -> Result<Vec<f64>> {
        let outside = self.outside(circuit)?;
        let mut found = vec![f64::NAN; self.samples];
        for (part, alternative) in &self.parts {
            interrupt::check()?;
            let alternative = match alternative {
                Some(values) => values.shallow_clone(),
                None => part.alternative(self.decoder)?,
            };
            let run = Run { decoder: self.decoder, graph: self.graph, alternative: &alternative, outside: &outside };
            let mut hooks = run.hooks()?;
            let tokens = Start::Tokens(&part.group.clean);
            let x = self.decoder.run_layers(tokens, self.decoder.blocks.len(), &mut hooks, None)?;
            let logits = self.decoder.unembed(x, Logits::Last, &mut Hooks::none())?;
            let values = self.objective.of(&logits.f_squeeze_dim(1)?, &part.group.samples)?;
            let values = Vec::<f64>::try_from(&values.f_to(Device::Cpu)?)?;
            part.group.samples.iter().zip(values).for_each(|(sample, value)| found[*sample] = value);
        }
        Ok(found)
    }

    /// 1 where an edge is not in the circuit, [source, destination].
    fn outside(&self, circuit: &Circuit) -> Result<Tensor> {
        let width = self.graph.destinations.len();
        let mut outside = vec![0.0; self.graph.sources.len() * width];
        for (edge, kept) in self.graph.edges.iter().zip(&circuit.kept) {
            outside[edge.source * width + edge.destination] = f64::from(u8::from(!kept));
        }
        let outside = Tensor::f_from_slice(&outside)?.f_view([-1, width as i64])?;
        Ok(outside.f_to_device_(self.decoder.output_device(), self.decoder.kind, false, false)?)
    }
}

/// What a run has computed so far.
#[derive(Default)]
struct State {
    /// What each source so far would carry less what it carries, [source, batch, pos, d_model]
    differences: Option<Tensor>,
    /// Results of the heads of a layer, which wait for the norm after them
    results: Option<Tensor>,
    /// What the layer reads, where its MLP reads it too
    read: Option<Tensor>,
}

/// One run of one circuit.
#[derive(Clone, Copy)]
struct Run<'a> {
    decoder: &'a Decoder,
    graph: &'a Graph,
    alternative: &'a Tensor,
    /// 1 where an edge is not in the circuit, [source, destination]
    outside: &'a Tensor,
}

impl<'a> Run<'a> {
    /// The hooks that make a run of the model one of the circuit.
    fn hooks(self) -> Result<Hooks<'a>> {
        let config = &self.decoder.config;
        let state: Rc<RefCell<State>> = Rc::default();
        let mut hooks = Hooks::none();
        let mut call = |site, layer, act: Act<'a>| {
            let point = HookPoint { site, layer };
            let state = Rc::clone(&state);
            let callback: Callback = Box::new(move |_, value| act(&mut state.borrow_mut(), value));
            hooks.add(config, vec![point], point.name(), Action::Call(callback));
        };
        call(Site::Embed, 0, Box::new(move |state, value| self.keep(state, Source::Input, &value.f_unsqueeze(0)?)));
        for block in &self.decoder.blocks {
            let layer = block.layer;
            let first = Source::Head { layer, head: 0 };
            for letter in Letter::ALL {
                let site = match letter {
                    Letter::Query => Site::QueryIn,
                    Letter::Key => Site::KeyIn,
                    Letter::Value => Site::ValueIn,
                };
                let destination = self.graph.heads(layer, letter);
                let count = self.graph.head_count(letter);
                call(site, layer, Box::new(move |state, value| self.changed(state, value, destination, count)));
            }
            match written::norm_after(config, block)? {
                None => call(
                    Site::HeadResult,
                    layer,
                    Box::new(move |state, value| self.keep(state, first, &value.f_permute([2, 0, 1, 3])?)),
                ),
                Some((norm, site)) => {
                    call(
                        Site::HeadResult,
                        layer,
                        Box::new(|state, value| {
                            state.results = Some(value.shallow_clone());
                            Ok(None)
                        }),
                    );
                    call(
                        site,
                        layer,
                        Box::new(move |state, scale| {
                            let results = state.results.take().ok_or_else(|| Error::new("heads gave no results"))?;
                            let parts = written::normed(&norm, &results, scale)?;
                            self.keep(state, first, &parts.f_permute([2, 0, 1, 3])?)
                        }),
                    );
                }
            }
            let (Some(destination), Some(ln2)) = (self.graph.mlp(layer), &block.ln2) else { continue };
            if config.shared_norm {
                // The MLP reads what attention reads, after one norm for both.
                call(
                    Site::ResidPre,
                    layer,
                    Box::new(|state, value| {
                        state.read = Some(value.shallow_clone());
                        Ok(None)
                    }),
                );
                let norm: Norm = ln2.shallow_clone();
                call(
                    Site::MlpNormedIn,
                    layer,
                    Box::new(move |state, _| {
                        let read = state.read.take().ok_or_else(|| Error::new("the layer read nothing"))?;
                        let changed = self.changed_one(state, &read, destination)?;
                        changed.map(|changed| norm.forward_plain(&changed)).transpose()
                    }),
                );
            } else {
                call(Site::MlpIn, layer, Box::new(move |state, value| self.changed_one(state, value, destination)));
            }
            let source = Source::Mlp { layer };
            call(Site::MlpOut, layer, Box::new(move |state, value| self.keep(state, source, &value.f_unsqueeze(0)?)));
        }
        let logits = self.graph.logits();
        let last = config.n_layers - 1;
        call(Site::ResidPost, last, Box::new(move |state, value| self.changed_one(state, value, logits)));
        Ok(hooks)
    }

    /// Keeps what sources from `first` on would carry less what they carry, `parts`, [source, batch, pos, d_model].
    fn keep(self, state: &mut State, first: Source, parts: &Tensor) -> Result<Option<Tensor>> {
        let first = self.graph.source(first) as i64;
        let differences = match &state.differences {
            Some(differences) => differences,
            None => state.differences.insert(self.alternative.f_empty_like()?),
        };
        let (start, count) = (first, parts.size()[0]);
        let own = self.alternative.f_narrow(0, start, count)?.f_sub(&parts.f_to(self.alternative.device())?)?;
        differences.f_narrow(0, start, count)?.f_copy_(&own)?;
        Ok(None)
    }

    /// What `count` destinations from `first` on read, [batch, pos, destination, d_model], with the edges outside
    /// exchanged; None where there are none.
    fn changed(self, state: &State, value: &Tensor, first: usize, count: i64) -> Result<Option<Tensor>> {
        let reach = self.graph.reach(first) as i64;
        let outside = self.outside.f_narrow(0, 0, reach)?.f_narrow(1, first as i64, count)?;
        if outside.f_any()?.f_int64_value(&[])? == 0 {
            return Ok(None);
        }
        let differences = state.differences.as_ref().ok_or_else(|| Error::new("nothing was embedded"))?;
        let differences = differences.f_narrow(0, 0, reach)?;
        let change = Tensor::f_einsum("sbpm,sd->bpdm", &[&differences, &outside], None::<i64>)?;
        Ok(Some(value.f_add(&change.f_to(value.device())?)?))
    }

    /// The same for one destination, [batch, pos, d_model].
    fn changed_one(self, state: &State, value: &Tensor, destination: usize) -> Result<Option<Tensor>> {
        let changed = self.changed(state, &value.f_unsqueeze(2)?, destination, 1)?;
        Ok(changed.map(|changed| changed.f_squeeze_dim(2)).transpose()?)
    }
}

/// What is done at a place: keep its value, or replace it.
type Act<'a> = Box<dyn Fn(&mut State, &Tensor) -> Result<Option<Tensor>> + 'a>;

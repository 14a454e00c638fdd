//! The hooks of one run of the decoder: captures, callbacks and interventions, looked up by hook point.

use std::rc::Rc;

use tch::Tensor;

use super::backward::Backward;
use super::cache::ActivationCache;
use super::config::Config;
use super::hook::HookPoint;
use super::intervention::{Intervention, Positions};
use super::padding::Padding;
use super::window::Window;
use crate::error::{Error, Result};
use crate::tensor::autograd;
use crate::tensor::raw::copy;
use crate::tensor::{is_float, kind_name};

/// A function that takes an activation and returns its replacement, or None to leave it unchanged.
pub type Callback<'a> = Box<dyn FnMut(&HookPoint, &Tensor) -> Result<Option<Tensor>> + 'a>;

/// What to do at a hook point.
pub enum Action<'a> {
    /// Keep the value in the cache.
    Capture,
    /// Keep it as one that gradients are computed for.
    Watch,
    /// Call a function with it.
    Call(Callback<'a>),
    /// Change it as described.
    Intervene(Intervention),
}

struct Entry<'a> {
    points: Vec<HookPoint>,
    label: String,
    action: Action<'a>,
    /// First sample and number of samples that it acts on; None for all
    rows: Option<(i64, i64)>,
    /// How often it acted
    fired: i64,
}

/// The captures, callbacks and interventions of one run. Without any, a hook point costs one look-up in an empty list.
pub struct Hooks<'a> {
    entries: Vec<Entry<'a>>,
    /// For each point's index, the entries that act there, in the order in which they were added
    at: Vec<Vec<usize>>,
    cache: ActivationCache,
    window: Window,
    padding: Option<Rc<Padding>>,
    backward: Backward,
}

impl<'a> Hooks<'a> {
    /// No hooks.
    pub fn none() -> Self {
        Self {
            entries: Vec::new(),
            at: Vec::new(),
            cache: ActivationCache::default(),
            window: Window { start: 0, length: 0, prompt: 0 },
            padding: None,
            backward: Backward::Exact,
        }
    }

    /// No hooks, in a run whose gradients follow these rules.
    pub fn with_backward(backward: Backward) -> Self {
        Self { backward, ..Self::none() }
    }

    /// The rules of the gradients.
    pub fn backward(&self) -> Backward {
        self.backward
    }

    /// Adds an action at `points`; `label` is the user's name for them.
    pub fn add(&mut self, config: &Config, points: Vec<HookPoint>, label: impl Into<String>, action: Action<'a>) {
        self.add_for(config, None, points, label, action);
    }

    /// Adds an action that sees and changes only some samples of the batch, `rows` = (first, how many): several
    /// treatments of the same prompts can then run side by side.
    pub fn add_for(
        &mut self,
        config: &Config,
        rows: Option<(i64, i64)>,
        points: Vec<HookPoint>,
        label: impl Into<String>,
        action: Action<'a>,
    ) {
        self.at.resize_with(HookPoint::count(config), Vec::new);
        for point in &points {
            self.at[point.index()].push(self.entries.len());
        }
        self.entries.push(Entry { points, label: label.into(), action, rows, fired: 0 });
    }

    /// Adds an intervention at its own point.
    pub fn intervene(&mut self, config: &Config, intervention: Intervention) {
        let point = intervention.point;
        self.add(config, vec![point], point.name(), Action::Intervene(intervention));
    }

    /// Sets the positions that the next pass computes, and where prompts are filled up.
    pub fn begin(&mut self, window: Window, padding: Option<Rc<Padding>>) {
        self.window = window;
        self.padding = padding;
    }

    /// Where the prompts of the pass are filled up.
    pub fn padding(&self) -> Option<Rc<Padding>> {
        self.padding.clone()
    }

    /// Every hooked point, once per hook.
    pub fn points(&self) -> impl Iterator<Item = &HookPoint> {
        self.entries.iter().flat_map(|entry| &entry.points)
    }

    /// How often each entry acted so far, with its label, in the order in which they were added.
    pub fn fired(&self) -> impl Iterator<Item = (&str, i64)> {
        self.entries.iter().map(|entry| (entry.label.as_str(), entry.fired))
    }

    /// Whether `point` has any action.
    pub fn wants(&self, point: HookPoint) -> bool {
        self.at.get(point.index()).is_some_and(|list| !list.is_empty())
    }

    /// Whether gradients are computed for the activation at `point`.
    pub fn watches(&self, point: HookPoint) -> bool {
        let mut entries = self.at.get(point.index()).into_iter().flatten();
        entries.any(|entry| matches!(self.entries[*entry].action, Action::Watch))
    }

    /// Passes an activation through the actions at `point`.
    ///
    /// # Errors
    /// A callback's error; a replacement of another shape; an intervention that does not fit.
    pub fn pass(&mut self, point: HookPoint, value: Tensor) -> Result<Tensor> {
        match self.change(point, &value)? {
            Some(changed) => Ok(changed),
            None => Ok(value),
        }
    }

    /// What the actions at `point` make of an activation; None where none of them replaces it.
    ///
    /// # Errors
    /// As [`Hooks::pass`].
    pub fn change(&mut self, point: HookPoint, value: &Tensor) -> Result<Option<Tensor>> {
        if !self.wants(point) {
            return Ok(None);
        }
        let positions = Positions { window: self.window, padding: self.padding.as_deref(), first: 0 };
        let mut changed = false;
        let mut value = value.shallow_clone();
        // Whether `value` is a copy of our own that may be written into.
        let mut own = false;
        for &index in &self.at[point.index()] {
            let entry = &mut self.entries[index];
            let Some((start, count)) = entry.rows else {
                if let Some(new) = act(entry, point, &value, positions, &mut self.cache)? {
                    value = new;
                    changed = true;
                }
                own = false;
                continue;
            };
            if !point.site.has_samples() {
                return Err(Error::new(format!("`{}` is the same for all samples", point.name()))
                    .hint("change it in a run of its own, not in one of several side by side"));
            }
            // A copy, because the callback may store its argument.
            let part = copy(&value.f_narrow(0, start, count)?)?;
            let positions = Positions { first: start, ..positions };
            if let Some(new) = act(entry, point, &part, positions, &mut self.cache)? {
                if !own {
                    value = copy(&value)?;
                    own = true;
                }
                value.f_narrow(0, start, count)?.f_copy_(&new)?;
                changed = true;
            }
        }
        Ok(changed.then_some(value))
    }

    /// The captured activations.
    ///
    /// # Errors
    /// A hook that never ran.
    pub fn finish(self) -> Result<ActivationCache> {
        for entry in &self.entries {
            if entry.fired == 0 && !entry.points.is_empty() {
                return Err(Error::new(format!("the hook at `{}` never ran", entry.label))
                    .hint("the run did not reach that place or those positions"));
            }
        }
        Ok(self.cache)
    }
}

/// An entry's replacement of an activation, in its shape and dtype, or None.
fn act(
    entry: &mut Entry,
    point: HookPoint,
    value: &Tensor,
    positions: Positions,
    cache: &mut ActivationCache,
) -> Result<Option<Tensor>> {
    let replacement = match &mut entry.action {
        Action::Capture => {
            entry.fired += 1;
            let kept = match positions.padding {
                Some(padding) => padding.marked(value, point.site.position_dim(value.dim()))?,
                None => value.shallow_clone(),
            };
            cache.insert(point, kept);
            None
        }
        Action::Watch => {
            entry.fired += 1;
            let watched = autograd::watched(value)?;
            cache.insert(point, watched.shallow_clone());
            Some(watched)
        }
        Action::Call(callback) => {
            entry.fired += 1;
            callback(&point, value)?
        }
        Action::Intervene(intervention) => {
            let changed = intervention.apply(value, positions)?;
            entry.fired += i64::from(changed.is_some());
            changed
        }
    };
    let Some(new) = replacement else { return Ok(None) };
    if new.size() != value.size() {
        return Err(Error::new(format!(
            "the hook at `{}` returned a tensor of shape {:?} for one of {:?}",
            point.name(),
            new.size(),
            value.size()
        ))
        .hint("a replacement has the same shape as the activation"));
    }
    if !is_float(new.kind()) {
        return Err(Error::new(format!(
            "the hook at `{}` returned a tensor of {}",
            point.name(),
            kind_name(new.kind())
        ))
        .hint("an activation holds floating-point numbers; a comparison gives true and false"));
    }
    Ok(Some(new.f_to_device_(value.device(), value.kind(), false, false)?))
}

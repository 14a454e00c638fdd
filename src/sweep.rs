//! A sweep: the same prompts under the hooks of many items (layers, heads, positions), several items side by side in
//! one batch.

use tch::Tensor;

use crate::error::{Error, Result};
use crate::grid::measured::Measured;
use crate::grid::target::Target;
use crate::model::decoder::{Decoder, Logits, not_finite_hint};
use crate::model::padding::Side;
use crate::model::run::Hooks;
use crate::parts::for_parts;
use crate::progress::Progress;

/// Adds the hooks of an item, counted from 0. They act on the rows (first, how many) of the batch: its copy of the
/// prompts.
pub type AddHooks<'a, 'h> = dyn FnMut(usize, (i64, i64), &mut Hooks<'h>) -> Result<()> + 'a;

/// The prompts and items to run.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// Token ids of the prompts
    pub prompts: Vec<Vec<i64>>,
    /// The side on which shorter prompts are filled up; None if all have one length
    pub padding: Option<Side>,
    /// Number of items
    pub items: usize,
    /// Number of prompts to run at once, though never fewer than one item's
    pub batch: usize,
    /// Whether no progress is shown
    pub quiet: bool,
}

impl Sweep {
    /// Runs all items. Calls `each` with every item and its logits, [prompt, pos, d_vocab], in order.
    ///
    /// # Errors
    /// No prompts, or prompts that cannot be run; an error raised by a callback; Ctrl-C.
    pub fn run<'h>(
        &self,
        decoder: &Decoder,
        logits: Logits,
        add_hooks: &mut AddHooks<'_, 'h>,
        each: &mut dyn FnMut(usize, Tensor) -> Result<()>,
    ) -> Result<()> {
        let count = self.prompts.len();
        if count == 0 {
            return Err(Error::new("there are no prompts").hint("give at least one"));
        }
        let progress = (!self.quiet).then(|| Progress::new(self.items as u64, "sweep"));
        let items: Vec<usize> = (0..self.items).collect();
        let rows = |number: usize| ((number * count) as i64, count as i64);
        let work = |items: &[usize]| {
            let mut hooks = Hooks::none();
            for (number, item) in items.iter().enumerate() {
                add_hooks(*item, rows(number), &mut hooks)?;
            }
            let prompts: Vec<Vec<i64>> = items.iter().flat_map(|_| self.prompts.iter().cloned()).collect();
            let all = decoder.forward_batch(&decoder.batch(&prompts, self.padding)?, logits, &mut hooks)?;
            hooks.finish()?;
            Ok(all)
        };
        for_parts(&items, self.batch / count, work, |items, all| {
            for (number, item) in items.iter().enumerate() {
                let (first, count) = rows(number);
                each(*item, all.f_narrow(0, first, count)?)?;
            }
            progress.iter().for_each(|progress| progress.tick(items.len() as u64));
            Ok(())
        })?;
        progress.iter().for_each(Progress::finish);
        Ok(())
    }

    /// Measures the last position of every prompt by its sample of `target`: [item, prompt], on the CPU.
    ///
    /// # Errors
    /// As for [`Sweep::run`]; a target of another number of samples, an answer's logit that is not finite.
    pub fn measure<'h>(
        &self,
        decoder: &Decoder,
        target: &Target,
        add_hooks: &mut AddHooks<'_, 'h>,
    ) -> Result<Measured> {
        let count = self.prompts.len();
        if target.samples.len() != count {
            return Err(Error::new(format!("there are {count} prompts and {} answers", target.samples.len())));
        }
        let mut parts = Vec::with_capacity(self.items);
        self.run(decoder, Logits::Last, add_hooks, &mut |item, logits| {
            let measured = Measured::of_logits(&logits.f_select(1, -1)?, target)?;
            if let Some((prompt, cell)) =
                (0..).zip(measured.cells()?).find(|(_, cell): &(usize, _)| !cell.is_measured())
            {
                let (whose, run) = (format!("of prompt {prompt}"), format!("under item {item}"));
                return Err(cell.refused(&whose, &run, not_finite_hint(decoder.kind)));
            }
            parts.push(measured);
            Ok(())
        })?;
        Measured::join(&parts)?.shaped(&[self.items as i64, count as i64])
    }
}

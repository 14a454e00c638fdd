//! What a model and its runs will take, in scripts.

use indicatif::HumanBytes;
use rhai::plugin::*;
use rhai::{Array, Map};

use super::grid_request::site;
use super::load_options;
use crate::bind::convert::integers;
use crate::bind::error::ScriptResult;
use crate::bind::map::map;
use crate::bind::option::Options;
use crate::device::device_name;
use crate::error::{Error, Result};
use crate::estimate::{Estimate, Share, Work};
use crate::grid::memory::Size;
use crate::grid::plan::SAMPLES_AT_ONCE;
use crate::model::room::Machine;
use crate::tensor::kind_name;

fn positive(options: &mut Options, key: &'static str) -> Result<Option<i64>> {
    match options.integer(key)? {
        Some(count) if count < 1 => Err(Error::new(format!("option `{key}` is {count}")).hint("at least 1")),
        given => Ok(given),
    }
}

/// What is done with the model.
fn work(options: &mut Options) -> Result<Work> {
    let length = positive(options, "length")?;
    let sizes = options.array("sizes")?.map(|sizes| integers("option `sizes`", &sizes)).transpose()?;
    let grid = match (sizes, length) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(Error::new("`sizes` asks for a grid, and how long its prompts are is not said")
                .hint("give `length`, the tokens of a prompt"));
        }
        (Some(sizes), Some(length)) => Some(Size {
            site: site(options)?,
            sizes: sizes.into_iter().map(whole).collect::<Result<_>>()?,
            samples: positive(options, "samples")?.unwrap_or(SAMPLES_AT_ONCE as i64),
            suffix: length - 1,
        }),
    };
    Ok(Work {
        length: length.unwrap_or(0),
        batch: positive(options, "batch")?.unwrap_or(1),
        new_tokens: positive(options, "new_tokens")?.unwrap_or(0),
        cached: options.boolean("cache")?.unwrap_or(false),
        grid,
    })
}

fn whole(size: i64) -> Result<usize> {
    usize::try_from(size)
        .map_err(|_| Error::new(format!("option `sizes` has {size}")).hint("sizes of sets, such as [1, 2]"))
}

/// The most GPUs that a machine is planned with.
const MOST_GPUS: i64 = 1024;

/// The machine that is planned for, and whether what does not fit there is refused.
fn machine(options: &mut Options) -> Result<(Machine, bool)> {
    let limit = options.number("limit")?;
    if let Some(limit) = limit.filter(|limit| limit.is_nan() || *limit <= 0.0) {
        return Err(Error::new(format!("option `limit` is {limit}")).hint("bytes of one device, such as 80e9"));
    }
    match (positive(options, "gpus")?, limit) {
        (None, limit) => Ok((Machine::this(limit), limit.is_some())),
        (Some(gpus), _) if gpus > MOST_GPUS => {
            Err(Error::new(format!("option `gpus` is {gpus}")).hint(format!("at most {MOST_GPUS}")))
        }
        (Some(gpus), Some(limit)) => Ok((Machine::with_gpus(gpus as usize, limit), true)),
        (Some(_), None) => Err(Error::new("`gpus` plans for another machine, and the memory of its GPUs is not said")
            .hint("give `limit`, the bytes of each, such as 80e9")),
    }
}

fn share(machine: &Machine, estimate: &Estimate, share: &Share) -> Map {
    let on = |layer: &usize| estimate.placement.layers[*layer] == share.device;
    let layers: Array = (0..estimate.placement.layers.len()).filter(on).map(|layer| (layer as i64).into()).collect();
    let room = machine.room(share.device);
    map! {
        "device" => device_name(share.device),
        "layers" => layers,
        "weights" => share.weights,
        "run" => share.run,
        "cache" => share.cache,
        "grid" => share.grid,
        "total" => share.total(),
        "room" => room.map_or(Dynamic::UNIT, Dynamic::from),
    }
}

fn described(id: &str, options: Map) -> Result<Map> {
    let (load, (machine, is_refused), work) =
        Options::read("estimate", options, |options| Ok((load_options(options)?, machine(options)?, work(options)?)))?;
    let estimate = Estimate::new(id, &load, &machine, &work)?;
    if let Some(lacking) = estimate.lacking.filter(|_| is_refused) {
        let error = Error::new(format!(
            "`{id}` in {} takes {} on {}, and {} are the limit",
            kind_name(load.kind),
            HumanBytes(lacking.total() as u64),
            device_name(lacking.device),
            HumanBytes(machine.room(lacking.device).unwrap_or_default() as u64),
        ));
        return Err(match estimate.fitting.as_slice() {
            [] => error.hint("no dtype, number of prompts or split fits below it"),
            some => error.hint(some.join("; or ")),
        });
    }
    let shares = || estimate.shares.iter();
    let devices: Array = shares().map(|one| Dynamic::from(share(&machine, &estimate, one))).collect();
    Ok(map! {
        "parameters" => estimate.counts.total() as i64,
        "dtype" => kind_name(load.kind),
        "weights" => shares().map(|share| share.weights).sum::<f64>(),
        "total" => shares().map(Share::total).sum::<f64>(),
        "devices" => devices,
        "fits" => estimate.lacking.is_none(),
        "fitting" => estimate.fitting.into_iter().map(Dynamic::from).collect::<Array>(),
    })
}

#[export_module(manifest)]
pub mod functions {
    /// What a model and a run of it will take on each device, in bytes, told from its config: nothing is loaded, and no
    /// weights are fetched.
    ///
    /// Returns `#{ parameters, dtype, weights, total, devices, fits, fitting }`. Each of `devices` is `#{ device, layers,
    /// weights, run, cache, grid, total, room }`, where `room` is what is free there, `run` what a run holds at most, and
    /// `total` the most at one time. `fitting` says what would fit where `fits` is false: a dtype, fewer prompts, a split.
    ///
    /// `id` and the options `device`, `device_map`, `dtype`, `revision`, `offline` are those of `load_model`. The work:
    /// `length` (tokens of a prompt; without it nothing runs), `batch` (prompts at once), `cache` (true: of every
    /// activation, as `run_with_cache(tokens)` keeps them), `new_tokens` (that are generated), `sizes` and `site` (of a
    /// `patch_grid`) with `samples` (that run together; as many as a grid takes). With `limit`, the bytes of one device, what takes more is an error
    /// that says what would fit; `gpus` plans for a machine with so many GPUs.
    ///
    /// # Errors
    /// No such model, one that is not supported; more bytes than the limit.
    ///
    /// # Example
    /// ```rhai
    /// let planned = estimate("olmo2-7b", #{ dtype: "bf16", limit: 80e9, gpus: 2, length: 100, batch: 8 });
    /// assert(planned.fits && planned.weights == 2.0 * planned.parameters);
    /// print(planned.devices[0].total);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn estimate(id: &str, options: Map) -> ScriptResult<Map> {
        Ok(described(id, options)?)
    }
}

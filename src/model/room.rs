//! Where a model's weights are to go, and whether there is room for them: asked before any is read.

use indicatif::HumanBytes;
use tch::{Device, Kind};

use super::language_model::LoadOptions;
use super::placement::Placement;
use super::size::Counts;
use crate::device::{self, device_name};
use crate::error::{Error, Result};
use crate::tensor::kind_name;

/// The devices that a model may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// All of it goes to one
    One(Device),
    /// Consecutive layers go to all GPUs
    Split,
}

/// The bytes that are taken on each device, for a placement and a dtype.
pub type Bytes<'a> = dyn Fn(&Placement, Kind) -> Vec<(Device, f64)> + 'a;

/// The devices of this machine, or of one that is planned for.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its GPUs; None: those of this machine, which are looked for only when they are asked for
    gpus: Option<Vec<Device>>,
    /// The bytes that a device may take at most; None: what is free there
    limit: Option<f64>,
}

impl Machine {
    /// This machine, where a device may take `limit` bytes at most, or what is free.
    pub fn this(limit: Option<f64>) -> Self {
        Self { gpus: None, limit }
    }

    /// A machine with so many GPUs of `bytes` each.
    pub fn with_gpus(count: usize, bytes: f64) -> Self {
        Self { gpus: Some((0..count).map(Device::Cuda).collect()), limit: Some(bytes) }
    }

    fn gpus(&self) -> Vec<Device> {
        self.gpus.clone().unwrap_or_else(device::gpus)
    }

    /// The bytes that a device can take, as far as they are known.
    pub fn room(&self, device: Device) -> Option<f64> {
        self.limit.or_else(|| device::free_memory(device).map(|free| free as f64))
    }

    fn has_room(&self, device: Device, bytes: f64) -> bool {
        self.limit.map_or_else(|| device::has_room(device, bytes), |limit| bytes <= limit)
    }

    /// The devices that options ask for.
    ///
    /// # Errors
    /// An unknown device, or one that the machine lacks; a split beside a named device, or over fewer than two GPUs.
    pub fn places(&self, options: &LoadOptions) -> Result<Places> {
        if !options.split {
            let number = |name: &str| name.strip_prefix("cuda:").and_then(|digits| digits.parse::<usize>().ok());
            return match (options.device.as_str(), &self.gpus) {
                ("auto" | "cuda", Some(gpus)) if !gpus.is_empty() => Ok(Places::One(gpus[0])),
                (name, Some(gpus)) => match number(name) {
                    Some(number) if number < gpus.len() => Ok(Places::One(gpus[number])),
                    Some(_) => Err(Error::new(format!(
                        "device `{name}`: the machine that is planned for has {} GPUs",
                        gpus.len()
                    ))),
                    None => device::parse_device(name).map(Places::One),
                },
                (name, None) => device::parse_device(name).map(Places::One),
            };
        }
        if options.device != "auto" {
            return Err(Error::new(format!(
                "`device_map: \"split\"` takes all GPUs, and `device: \"{}\"` names one device",
                options.device
            ))
            .hint("leave `device` out; `CUDA_VISIBLE_DEVICES` chooses the GPUs that a process sees"));
        }
        match (self.gpus().as_slice(), device::cuda().problem()) {
            ([], Some(problem)) => Err(problem.context("`device_map: \"split\"`")),
            ([] | [_], _) => Err(Error::new("`device_map: \"split\"` needs two GPUs at least, and there is only one")
                .hint("leave it out: the whole model then goes to `cuda:0`")),
            _ => Ok(Places::Split),
        }
    }

    /// Where each part of a model goes.
    pub fn placement(&self, counts: &Counts, places: Places) -> Placement {
        match places {
            Places::One(device) => Placement::on(device, counts.layers.len()),
            Places::Split => {
                // Where the system does not report what is free, devices count as equal.
                let room = |device: &Device| (*device, self.room(*device).unwrap_or(1.0));
                Placement::split(counts, &self.gpus().iter().map(room).collect::<Vec<_>>())
            }
        }
    }

    /// All choices.
    fn choices(&self) -> Vec<Places> {
        let gpus = self.gpus();
        let split = (gpus.len() > 1).then_some(Places::Split);
        // A limit is one of the devices asked for.
        let cpu = self.limit.is_none().then_some(Places::One(Device::Cpu));
        gpus.into_iter().map(Places::One).chain(split).chain(cpu).collect()
    }

    /// The first device without room, and the bytes that it would have to take.
    pub fn lacking(&self, bytes: Vec<(Device, f64)>) -> Option<(Device, f64)> {
        bytes.into_iter().find(|(device, bytes)| !self.has_room(*device, *bytes))
    }

    /// What would fit instead, each as options of `load_model`: another dtype in the same place, other places in the same
    /// dtype, or else both.
    pub fn fitting(&self, counts: &Counts, (kind, places): (Kind, Places), bytes: &Bytes) -> Vec<String> {
        let words = |(other_kind, other): (Kind, Places)| -> Option<String> {
            let placement = self.placement(counts, other);
            let taken = bytes(&placement, other_kind);
            let all: f64 = taken.iter().map(|(_, bytes)| bytes).sum();
            self.lacking(taken).is_none().then(|| choice((other_kind, other), (kind, places), &placement, all))
        };
        let half = (kind.elt_size_in_bytes() > 2).then_some(Kind::BFloat16);
        let elsewhere = || self.choices().into_iter().filter(|other| *other != places);
        let near = half.map(|half| (half, places)).into_iter().chain(elsewhere().map(|other| (kind, other)));
        let found: Vec<String> = near.filter_map(words).collect();
        match found.is_empty() {
            true => elsewhere().filter_map(|other| Some((half?, other))).filter_map(words).collect(),
            false => found,
        }
    }
}

/// A choice that fits, in words: what differs from the one that does not, and what it takes.
fn choice(
    (kind, places): (Kind, Places),
    (given_kind, given): (Kind, Places),
    placement: &Placement,
    bytes: f64,
) -> String {
    let dtype = (kind != given_kind).then(|| format!("dtype: \"{}\"", kind_name(kind)));
    let place = (places != given).then(|| match places {
        Places::One(device) => format!("device: \"{}\"", device_name(device)),
        Places::Split => "device_map: \"split\"".to_owned(),
    });
    let options: Vec<String> = dtype.into_iter().chain(place).collect();
    format!("with `{}` it takes {} on {placement} and fits", options.join(", "), HumanBytes(bytes as u64))
}

/// The bytes that weights take on each device.
pub fn weights(counts: &Counts, placement: &Placement, kind: Kind) -> Vec<(Device, f64)> {
    let size = kind.elt_size_in_bytes() as f64;
    placement.numbers(counts).into_iter().map(|(device, numbers)| (device, numbers * size)).collect()
}

/// Where each part of model `id` goes on this machine, if its weights fit there.
///
/// # Errors
/// Too little free memory on a device, with what would fit.
pub fn placement(id: &str, counts: &Counts, kind: Kind, places: Places) -> Result<Placement> {
    let machine = Machine::this(None);
    let placement = machine.placement(counts, places);
    let Some((device, bytes)) = machine.lacking(weights(counts, &placement, kind)) else { return Ok(placement) };
    let free = machine.room(device).map_or_else(String::new, |free| HumanBytes(free as u64).to_string());
    let error = Error::new(format!(
        "`{id}` does not fit into the memory of {}: its weights in {} take {} there, and {free} are free",
        device_name(device),
        kind_name(kind),
        HumanBytes(bytes as u64),
    ));
    let bytes = |placement: &Placement, kind| weights(counts, placement, kind);
    Err(error.hint(match machine.fitting(counts, (kind, places), &bytes).as_slice() {
        [] => "no device of this machine has room for it, nor all GPUs together".to_owned(),
        some => some.join("; or "),
    }))
}

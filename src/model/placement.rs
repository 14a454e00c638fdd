//! The devices of a decoder's parts: all on one, or consecutive layers on several.

use std::fmt::{self, Display, Formatter};

use tch::Device;

use super::size::Counts;
use crate::device::device_name;

/// The device of each part of a decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Of the embedding and learned positions
    pub input: Device,
    /// Of each layer
    pub layers: Vec<Device>,
    /// Of the final norm and the unembedding; an unembedding that is the embedding stays with it
    pub output: Device,
}

impl Placement {
    /// Everything on one device.
    pub fn on(device: Device, n_layers: usize) -> Self {
        Self { input: device, layers: vec![device; n_layers], output: device }
    }

    /// Consecutive layers on several devices, given with the bytes that are free on each: such that the device that is
    /// filled most, as a share of what is free there, is filled least. Each has a layer at least; where there are fewer
    /// layers than devices, the last of these stay empty.
    pub fn split(counts: &Counts, devices: &[(Device, f64)]) -> Self {
        let n_layers = counts.layers.len();
        let devices = &devices[..devices.len().min(n_layers)];
        let mut parts: Vec<f64> = counts.layers.clone();
        parts[0] += counts.input;
        let output = if counts.tied { 0 } else { n_layers - 1 };
        parts[output] += counts.output;
        let ends = ends(&parts, &devices.iter().map(|(_, free)| free.max(1.0)).collect::<Vec<_>>());
        let mut layers = Vec::new();
        for (end, (device, _)) in ends.into_iter().zip(devices) {
            layers.resize(end, *device);
        }
        Self { input: layers[0], output: layers[output], layers }
    }

    /// The devices, each once, in the order of the layers.
    pub fn devices(&self) -> Vec<Device> {
        let mut found = vec![self.input];
        for device in self.layers.iter().chain([&self.output]) {
            if !found.contains(device) {
                found.push(*device);
            }
        }
        found
    }

    /// The numbers that each device holds, in the order of [`Placement::devices`].
    pub fn numbers(&self, counts: &Counts) -> Vec<(Device, f64)> {
        let parts = [(self.input, counts.input), (self.output, counts.output)];
        let layers = self.layers.iter().copied().zip(counts.layers.iter().copied());
        let parts: Vec<(Device, f64)> = parts.into_iter().chain(layers).collect();
        let on = |device| parts.iter().filter(|(own, _)| *own == device).map(|(_, count)| count).sum();
        self.devices().into_iter().map(|device| (device, on(device))).collect()
    }
}

impl Display for Placement {
    /// `cuda:0`, or `cuda:0 (layers 0-15), cuda:1 (layers 16-31)`.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let devices = self.devices();
        if let [device] = devices.as_slice() {
            return formatter.write_str(&device_name(*device));
        }
        for (number, device) in devices.iter().enumerate() {
            let own = || (0..self.layers.len()).filter(|layer| self.layers[*layer] == *device);
            let layers = match (own().min(), own().max()) {
                (Some(first), Some(last)) if first < last => format!("layers {first}-{last}"),
                (Some(only), _) => format!("layer {only}"),
                (None, _) => "no layer".to_owned(),
            };
            let comma = if number > 0 { ", " } else { "" };
            write!(formatter, "{comma}{} ({layers})", device_name(*device))?;
        }
        Ok(())
    }
}

/// Where to cut `parts` so that each of `rooms` takes one or more neighbours, and the fullest is as empty as it can be:
/// the end of each room's parts.
fn ends(parts: &[f64], rooms: &[f64]) -> Vec<usize> {
    let sum = |from: usize, until: usize| parts[from..until].iter().sum::<f64>();
    // For each number of first parts, the fullest of the rooms so far, and their ends.
    let mut best: Vec<Option<(f64, Vec<usize>)>> =
        (0..=parts.len()).map(|end| (end > 0).then(|| (sum(0, end) / rooms[0], vec![end]))).collect();
    for room in &rooms[1..] {
        let with_room = |end: usize| {
            let before = best.iter().enumerate().take(end).filter_map(|(start, found)| Some((start, found.as_ref()?)));
            let filled = before.map(|(start, (fullest, ends))| (fullest.max(sum(start, end) / room), ends));
            let (fullest, ends) = filled.min_by(|one, other| one.0.total_cmp(&other.0))?;
            Some((fullest, [ends.as_slice(), &[end]].concat()))
        };
        best = (0..=parts.len()).map(with_room).collect();
    }
    best.pop().flatten().map_or_else(Vec::new, |(_, ends)| ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(input: f64, layers: &[f64], output: f64, tied: bool) -> Counts {
        Counts { input, layers: layers.to_vec(), output, tied, largest: 0.0 }
    }

    fn split(counts: &Counts, free: &[u64]) -> String {
        let devices: Vec<(Device, f64)> =
            free.iter().enumerate().map(|(gpu, free)| (Device::Cuda(gpu), *free as f64)).collect();
        Placement::split(counts, &devices).to_string()
    }

    #[test]
    fn the_fullest_device_is_as_empty_as_any_cut_makes_it() {
        let mut state = 1_u64;
        let mut draw = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            1 + (state >> 33) % most
        };
        for _ in 0..200 {
            let parts: Vec<f64> = (0..2 + draw(6)).map(|_| draw(9) as f64).collect();
            let rooms: Vec<f64> = (0..2).map(|_| draw(9) as f64).collect();
            let fullest = |cut: usize| {
                let (one, other) = parts.split_at(cut);
                (one.iter().sum::<f64>() / rooms[0]).max(other.iter().sum::<f64>() / rooms[1])
            };
            let least = (1..parts.len()).map(fullest).fold(f64::INFINITY, f64::min);
            let found = ends(&parts, &rooms);
            assert_eq!((found.len(), found[1]), (2, parts.len()));
            assert_eq!(fullest(found[0]), least, "{parts:?} {rooms:?}");
        }
    }

    #[test]
    fn layers_are_cut_by_bytes_and_free_memory() {
        let even = counts(2.0, &[4.0; 8], 2.0, false);
        assert_eq!(split(&even, &[100, 100]), "cuda:0 (layers 0-3), cuda:1 (layers 4-7)");
        assert_eq!(split(&even, &[300, 100]), "cuda:0 (layers 0-5), cuda:1 (layers 6-7)");
        // A large embedding counts where it is.
        assert_eq!(split(&counts(16.0, &[4.0; 8], 16.0, false), &[1, 1]), "cuda:0 (layers 0-3), cuda:1 (layers 4-7)");
        assert_eq!(split(&counts(16.0, &[4.0; 8], 0.0, true), &[1, 1]), "cuda:0 (layers 0-1), cuda:1 (layers 2-7)");
        assert_eq!(split(&even, &[1; 3]), "cuda:0 (layers 0-2), cuda:1 (layers 3-5), cuda:2 (layers 6-7)");
        assert_eq!(split(&counts(900.0, &[1.0, 1.0], 900.0, false), &[1, 1]), "cuda:0 (layer 0), cuda:1 (layer 1)");
        assert_eq!(split(&counts(1.0, &[1.0], 1.0, false), &[1, 1]), "cuda:0");
    }

    #[test]
    fn a_tied_unembedding_stays_with_the_embedding() {
        let devices = [(Device::Cuda(0), 1.0), (Device::Cuda(1), 1.0)];
        let placed = |tied| Placement::split(&counts(1.0, &[4.0; 4], 1.0, tied), &devices);
        assert_eq!((placed(true).input, placed(true).output), (Device::Cuda(0), Device::Cuda(0)));
        assert_eq!(placed(false).output, Device::Cuda(1));
        assert_eq!(
            placed(false).numbers(&counts(1.0, &[4.0; 4], 1.0, false)),
            [(Device::Cuda(0), 9.0), (Device::Cuda(1), 9.0)]
        );
    }
}

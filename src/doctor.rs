//! Writes the report of `lancet doctor`: whether libtorch computes correctly on each device, which models are present,
//! how the hub is reached, and how to fix what is missing.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::http::shown;
use crate::hub::{self, BUILT_IN, Hub, Origin};
use crate::{device, libtorch};

/// Writes the report to `out`. Returns whether nothing essential is broken: libtorch multiplies matrices correctly on
/// every device, and no checkpoint is damaged. An absent one is reported only. With `verify` every file of the hub's
/// cache is checked too.
///
/// # Errors
/// `out` cannot be written; Ctrl-C while files are checked.
pub fn run(out: &mut dyn Write, verify: bool) -> Result<bool> {
    report(out, Hub::from_env(), verify)
}

/// Writes the report with these places for models.
///
/// # Errors
/// As for [`run`].
pub fn report(out: &mut dyn Write, hub: Result<Hub>, verify: bool) -> Result<bool> {
    let mut report = Report { out, healthy: true, verify };
    let written = report.libtorch().and_then(|()| report.devices()).and_then(|()| report.models(hub));
    written.map_err(|error| match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => Error::new(format!("the report cannot be written: {error}")),
    })?;
    Ok(report.healthy)
}

struct Report<'a> {
    out: &'a mut dyn Write,
    healthy: bool,
    /// Whether to check the files of the hub's cache.
    verify: bool,
}

impl Report<'_> {
    fn heading(&mut self, name: &str) -> io::Result<()> {
        writeln!(self.out, "{name}")
    }

    fn line(&mut self, label: &str, value: impl Display) -> io::Result<()> {
        writeln!(self.out, "  {label:<12} {value}")
    }

    /// A line on something absent or broken, with its fix.
    fn problem(&mut self, label: &str, problem: &Error) -> io::Result<()> {
        self.line(label, problem)?;
        problem.hint_text().map_or(Ok(()), |hint| self.line("", format!("hint: {hint}")))
    }

    /// A problem that makes results wrong or impossible.
    fn failure(&mut self, label: &str, problem: &Error) -> io::Result<()> {
        self.healthy = false;
        self.problem(label, problem)
    }

    fn libtorch(&mut self) -> io::Result<()> {
        self.heading("libtorch")?;
        let library = libtorch::library();
        match &library {
            Some(path) => self.line("library", path.display())?,
            None => self.line("library", "its path is unknown on this system")?,
        }
        self.line("because", libtorch::reason().words())?;
        if let Some(problem) = libtorch::passed_over() {
            self.problem("passed over", &problem)?;
        }
        match library.as_deref().and_then(libtorch::version) {
            Some(version) if libtorch::is_right(&version) => self.line("version", version)?,
            Some(version) => {
                let release = libtorch::RELEASE;
                self.failure("version", &Error::new(format!("{version}, and Lancet is built for {release}")))?;
            }
            None => self.line("version", "not recorded beside the library")?,
        }
        self.line("threads", tch::get_num_threads())
    }

    fn devices(&mut self) -> io::Result<()> {
        self.heading("devices")?;
        let state = device::cuda();
        let cuda = (0..device::cuda_device_count()).map(Device::Cuda);
        for device in std::iter::once(Device::Cpu).chain(cuda) {
            let name = device::device_name(device);
            match check(device).and_then(|()| speed(device)) {
                Ok(speed) => {
                    let free = device::free_memory(device);
                    let free = free.map_or_else(String::new, |bytes| format!(", {} free", size(bytes)));
                    self.line(&name, format!("computes correctly, {speed:.0} GFLOP/s in f32{free}"))?;
                }
                Err(problem) => self.failure(&name, &problem)?,
            }
        }
        match (state, state.problem()) {
            (_, None) => Ok(()),
            (device::Cuda::Broken(_), Some(problem)) => self.failure("cuda", &problem),
            (_, Some(problem)) => self.problem("cuda", &problem),
        }
    }

    fn models(&mut self, hub: Result<Hub>) -> io::Result<()> {
        self.heading("models")?;
        let hub = match hub {
            Ok(hub) => hub,
            Err(problem) => return self.failure("cache", &problem),
        };
        for model in BUILT_IN {
            if let Origin::Gguf { file, sha256, .. } = &model.origin {
                let path = hub.models.join(file);
                let absent = Error::new(format!("`{}` is missing", path.display()));
                match crate::file::checksum(&path) {
                    Ok(found) if found == *sha256 => {
                        self.line(model.name, format!("{}, checksum correct", path.display()))?
                    }
                    Ok(_) => {
                        let broken = Error::new(format!("`{}` has a wrong checksum", path.display()));
                        self.failure(model.name, &broken.hint("`make setup` fetches it again"))?;
                    }
                    Err(_) if !path.exists() => {
                        self.problem(model.name, &absent.hint("`make setup` fetches it"))?;
                    }
                    Err(error) => self.failure(model.name, &error)?,
                }
            }
        }
        let cached = format!("{} ({} models)", hub.cache.display(), models_in(&hub.cache));
        self.line("hub cache", cached)?;
        if self.verify {
            self.hub_files(&hub.cache)?;
        }
        let address = hub.endpoint.as_deref().map(shown);
        self.line("hub address", address.as_deref().unwrap_or("the default (`HF_ENDPOINT` is not set)"))?;
        match hub.token {
            Some(_) => self.line("hub token", "found")?,
            None => self.line("hub token", "none; models behind a licence need one in `HF_TOKEN`")?,
        }
        self.line("downloads", if hub.offline { "off (`HF_HUB_OFFLINE`)" } else { "allowed" })
    }

    fn hub_files(&mut self, cache: &Path) -> io::Result<()> {
        let found = match hub::verify(cache) {
            Ok(found) => found,
            Err(Error::Interrupted) => return Err(io::Error::other(Error::Interrupted)),
            Err(error) => return self.failure("hub files", &error),
        };
        let unknown = match found.unknown {
            0 => String::new(),
            count => format!("; {count} incomplete or without a checksum"),
        };
        self.line("hub files", format!("{} whole, {} broken{unknown}", found.whole, found.broken.len()))?;
        for path in found.broken {
            let broken = Error::new(format!("`{}` has a wrong checksum", path.display()));
            self.failure("hub files", &broken.hint("remove it; the next use of its model fetches it again"))?;
        }
        Ok(())
    }
}

/// Compares a product of two small matrices with the sum that defines it.
fn check(device: Device) -> Result<()> {
    const ROWS: usize = 48;
    const INNER: usize = 64;
    const COLUMNS: usize = 32;
    let entry = |index: usize| (index * 37 % 101) as f32 / 101.0 - 0.5;
    let left: Vec<f32> = (0..ROWS * INNER).map(entry).collect();
    let right: Vec<f32> = (0..INNER * COLUMNS).map(|index| entry(index + 5)).collect();
    let expected = left.chunks(INNER).flat_map(|row| {
        let right = &right;
        (0..COLUMNS).map(move |column| {
            let entries = right.iter().skip(column).step_by(COLUMNS);
            row.iter().zip(entries).map(|(&one, &other)| f64::from(one) * f64::from(other)).sum::<f64>()
        })
    });
    let matrix = |values: &[f32], rows: usize, columns: usize| {
        let tensor = Tensor::f_from_slice(values)?.f_reshape([rows as i64, columns as i64])?;
        tensor.f_to_device(device)
    };
    let product = matrix(&left, ROWS, INNER)?.f_matmul(&matrix(&right, INNER, COLUMNS)?)?;
    let product: Vec<f64> = Vec::try_from(product.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_reshape([-1])?)?;
    // GPUs may round the factors to ten bits of mantissa; the entries of the product are of order 1.
    let tolerance = if device.is_cuda() { 1e-2 } else { 1e-5 };
    let right = product.len() == ROWS * COLUMNS
        && expected.zip(&product).all(|(expected, found)| (expected - found).abs() <= tolerance);
    if right {
        Ok(())
    } else {
        Err(Error::new("a matrix product is wrong").hint("this libtorch does not work here: install another one"))
    }
}

/// Billions of floating-point operations a second in a product of two square matrices: the best of three.
fn speed(device: Device) -> Result<f64> {
    const SIDE: i64 = 1024;
    let matrix = Tensor::f_ones([SIDE, SIDE], (Kind::Float, device))?;
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        // Reading an element waits for the device.
        matrix.f_matmul(&matrix)?.f_double_value(&[0, 0])?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIDE as f64).powi(3) / best / 1e9)
}

/// The number of models of which the hub's cache holds a snapshot.
fn models_in(cache: &Path) -> usize {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let is_model = |path: &Path| {
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"));
        named && std::fs::read_dir(path.join("snapshots")).is_ok_and(|mut snapshots| snapshots.next().is_some())
    };
    entries.filter(|entry| is_model(&entry.path())).count()
}

/// A number of bytes in words.
fn size(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

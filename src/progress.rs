//! The progress of a long loop: a bar on standard error, or a line now and then if that is not a terminal.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The time between two lines if there is no terminal for a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

thread_local! {
    /// The bars on the screen, so that nested ones stand below each other and output can go above them.
    static BARS: RefCell<MultiProgress> = RefCell::new(MultiProgress::new());
    /// Whether the cursor may stand at the end of a bar.
    static DRAWN: Cell<bool> = const { Cell::new(false) };
}

/// The progress of one loop; cloning shares it. Dropping the last clone leaves the bar as it stands.
#[derive(Clone)]
pub struct Progress(Rc<Count>);

struct Count {
    bar: ProgressBar,
    label: String,
    started: Instant,
    /// When the last line was written; none where a bar is drawn.
    last_line: Option<Cell<Instant>>,
    finished: Cell<bool>,
}

impl Progress {
    /// Starts at 0 of `total` steps, with `label` (may be empty) in front.
    pub fn new(total: u64, label: &str) -> Self {
        let label = one_line(label);
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let bar = if terminal { BARS.with_borrow(|bars| bars.add(bar)) } else { bar };
        DRAWN.set(DRAWN.get() || terminal);
        bar.set_style(style(!label.is_empty()));
        bar.set_prefix(label.clone());
        let last_line = (!terminal).then(|| Cell::new(now));
        Self(Rc::new(Count { bar, label, started: now, last_line, finished: Cell::new(false) }))
    }

    /// Counts `steps` more as done.
    pub fn tick(&self, steps: u64) {
        self.0.bar.inc(steps);
        if let Some(last) = &self.0.last_line {
            let now = Instant::now();
            if now.duration_since(last.get()) >= LINE_INTERVAL {
                last.set(now);
                self.write_line();
            }
        }
    }

    /// Shows `text` after the bar until the next message.
    pub fn message(&self, text: &str) {
        self.0.bar.set_message(one_line(text));
    }

    /// Ends the display; the bar stays on the screen. The steps done stay as counted.
    pub fn finish(&self) {
        if self.0.finished.replace(true) {
            return;
        }
        self.0.bar.abandon();
        // A loop too short for a first line needs no last one either.
        if self.0.last_line.is_some() && self.0.started.elapsed() >= LINE_INTERVAL {
            self.write_line();
        }
    }

    /// The steps done.
    pub fn position(&self) -> u64 {
        self.0.bar.position()
    }

    /// All steps.
    pub fn total(&self) -> u64 {
        self.0.bar.length().unwrap_or(0)
    }

    fn write_line(&self) {
        // There is nowhere to report that standard error is closed.
        let _ = writeln!(std::io::stderr().lock(), "{}", self.line(self.0.started.elapsed()));
    }

    fn line(&self, elapsed: Duration) -> String {
        let (done, total) = (self.position(), self.total());
        let name = if self.0.label.is_empty() { String::new() } else { format!("{}: ", self.0.label) };
        let percent = if total == 0 { 100.0 } else { done as f64 / total as f64 * 100.0 };
        let rate = done as f64 / elapsed.as_secs_f64().max(1e-9);
        let mut line = format!("{name}{done}/{total} ({percent:.0}%), {}, {} elapsed", per_time(rate), clock(elapsed));
        if done > 0 && done < total {
            let left = Duration::try_from_secs_f64((total - done) as f64 / rate).unwrap_or(Duration::MAX);
            line.push_str(&format!(", {} left", clock(left)));
        }
        let message = self.0.bar.message();
        if !message.is_empty() {
            line.push_str(&format!(" | {message}"));
        }
        line
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.bar.abandon();
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.0.label.is_empty() { String::new() } else { format!("`{}`, ", self.0.label) };
        write!(formatter, "Progress({name}{} of {})", self.position(), self.total())
    }
}

/// Runs `print` while no bar is on the screen, so that its output goes above the bars.
pub fn suspend<T>(print: impl FnOnce() -> T) -> T {
    let bars = BARS.with_borrow(MultiProgress::clone);
    bars.suspend(print)
}

/// Leaves every bar as it stands and draws none of them again. Call it after an evaluation, before writing anything
/// else to the screen.
pub fn settle() {
    let old = BARS.replace(MultiProgress::new());
    old.set_draw_target(ProgressDrawTarget::hidden());
    if DRAWN.take() {
        let _ = writeln!(std::io::stderr().lock());
    }
}

fn style(labelled: bool) -> ProgressStyle {
    let prefix = if labelled { "{prefix} " } else { "" };
    let template = format!("{prefix}[{{bar:28}}] {{pos}}/{{len}} {{rate}} {{elapsed}} elapsed, {{left}} left {{msg}}");
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key("rate", |state: &indicatif::ProgressState, text: &mut dyn fmt::Write| {
            let _ = text.write_str(&per_time(state.per_sec()));
        })
        .with_key("elapsed", |state: &indicatif::ProgressState, text: &mut dyn fmt::Write| {
            let _ = text.write_str(&clock(state.elapsed()));
        })
        .with_key("left", |state: &indicatif::ProgressState, text: &mut dyn fmt::Write| {
            let _ = text.write_str(&clock(state.eta()));
        })
}

/// A rate per second, or per minute where it is slow.
fn per_time(rate: f64) -> String {
    if rate >= 100.0 {
        format!("{rate:.0}/s")
    } else if rate >= 1.0 {
        format!("{rate:.1}/s")
    } else {
        format!("{:.1}/min", rate * 60.0)
    }
}

/// Minutes and seconds, with hours in front where there are some.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 { format!("{minutes}:{seconds:02}") } else { format!("{hours}:{minutes:02}:{seconds:02}") }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Progress, clock, per_time};

    #[test]
    fn a_line_tells_rate_and_time_left() {
        let progress = Progress::new(200, "scores\n");
        progress.tick(40);
        progress.tick(10);
        progress.message("loss 0.5");
        let line = progress.line(Duration::from_secs(25));
        assert_eq!(line, "scores: 50/200 (25%), 2.0/s, 0:25 elapsed, 1:15 left | loss 0.5");
    }

    #[test]
    fn no_steps_are_no_division_by_zero() {
        let progress = Progress::new(0, "");
        assert_eq!(progress.line(Duration::ZERO), "0/0 (100%), 0.0/min, 0:00 elapsed");
        progress.finish();
        progress.finish();
    }

    #[test]
    fn times_are_short() {
        assert_eq!(clock(Duration::from_secs(3_725)), "1:02:05");
        assert_eq!(clock(Duration::from_secs(59)), "0:59");
        assert_eq!(per_time(0.05), "3.0/min");
    }
}

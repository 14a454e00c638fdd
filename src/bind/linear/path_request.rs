//! The requests for paths in scripts.

use rhai::{Array, Map};

use super::Linear;
use crate::bind::convert::{expected, integers};
use crate::bind::option::Options;
use crate::error::{Error, Result, unknown};
use crate::linear::attention::Side;
use crate::linear::head_score::Place;
use crate::linear::live::Through;
use crate::linear::path::method::Selection;
use crate::linear::path::plan::Plan;
use crate::linear::path::request::{Edges, Granularity, GraphRequest, Mode};
use crate::linear::path::table::TableOptions;
use crate::linear::readout::Scale;

/// What a call asks for.
pub struct Call {
    request: GraphRequest,
    end: End,
    /// Which paths
    pub options: TableOptions,
    /// The most paths to compute
    pub limit: i64,
    /// Where to write them
    pub file: Option<String>,
    /// Whether to show no progress
    pub quiet: bool,
}

/// What paths lead to.
enum End {
    Answer(i64, Scale),
    Score(Place, Side),
}

/// What to do where memory is too small.
pub const LESS_MEMORY: &str =
    "choose fewer starts by `from`, fewer edges by `edges`, or `keep: \"high_ranking\"`, or `file`";

impl Call {
    /// Reads the options of `function`.
    pub fn read(linear: &Linear, function: &'static str, options: Map) -> Result<Self> {
        Options::read(function, options, |options| Self::of(linear, options))
    }

    fn of(linear: &Linear, options: &mut Options) -> Result<Self> {
        let end = match linear.root(options)? {
            Some((place, side)) => {
                for key in ["keep", "max_rank"] {
                    if options.has(key) {
                        return Err(Error::new(format!("paths to a head's score have no ranks: leave `{key}` out")));
                    }
                }
                End::Score(place, side)
            }
            None => {
                let answer = linear.answer(options)?;
                End::Answer(answer, linear.scale(options, answer)?)
            }
        };
        let request = request(linear, options, &end)?;
        let positive = |key: &str, value: Option<i64>| match value {
            Some(value) if value < 1 => {
                Err(Error::new(format!("option `{key}` is {value}")).hint("it must be at least 1"))
            }
            other => Ok(other),
        };
        let sample = positive("sample", options.integer("sample")?)?;
        let highest = positive("highest", options.integer("highest")?)?;
        let seed = options.integer("seed")?;
        let selection = match (sample, highest) {
            (Some(_), Some(_)) => return Err(Error::new("options `sample` and `highest` exclude each other")),
            (Some(count), None) => Selection::Sample { count: count as usize, seed: seed.unwrap_or(0) as u64 },
            (None, Some(count)) => Selection::Highest { count: count as usize },
            (None, None) => Selection::All,
        };
        if seed.is_some() && sample.is_none() {
            return Err(Error::new("option `seed` goes with `sample`"));
        }
        let keep_low = options.choice("keep", &[("all", true), ("high_ranking", false)])?.unwrap_or(true);
        let max_rank = positive("max_rank", options.integer("max_rank")?)?.unwrap_or(100);
        let file = options.string("file")?;
        Ok(Self {
            request,
            end,
            options: TableOptions { selection, max_rank, keep_low, hold: file.is_none() },
            limit: positive("limit", options.integer("limit")?)?.unwrap_or(1_000_000),
            file,
            quiet: options.boolean("quiet")?.unwrap_or(false),
        })
    }

    /// The plan of what is asked for.
    pub fn plan<'a>(&self, linear: &'a Linear) -> Result<Plan<'a>> {
        let mode = match self.request.granularity {
            _ if self.request.mode == Mode::Eq3 => "use `granularity: \"head\"`",
            Granularity::Token => "use `mode: \"eq3\"`",
            Granularity::Head => "use `granularity: \"token\"`, or `mode: \"eq3\"`",
        };
        self.request.check_mode(linear.map.config()).map_err(|error| error.hint(mode))?;
        self.request.check_memory(&linear.map).map_err(|error| error.hint(LESS_MEMORY))?;
        let readout = match &self.end {
            End::Answer(answer, scale) => linear.map.readout(*answer, scale.clone(), self.request.to)?,
            End::Score(place, side) => linear.map.score_readout(*place, *side)?,
        };
        Plan::to(&linear.map, self.request.clone(), readout, self.options)
    }
}

/// Option `through`: what paths may pass of a head, its values by default.
pub fn through(options: &mut Options) -> Result<Through> {
    let given = options.choice("through", &[("v", Through::Values), ("qkv", Through::All)])?;
    Ok(given.unwrap_or(Through::Values))
}

fn request(linear: &Linear, options: &mut Options, end: &End) -> Result<GraphRequest> {
    let (to, until) = match end {
        End::Answer(..) => (linear.to(options)?, None),
        End::Score(place, side) => (place.position(*side), Some(place.layer)),
    };
    let mut from = match options.any("from") {
        None => (0..=to).collect(),
        Some(value) => match (value.as_int(), value.read_lock::<Array>()) {
            (Ok(position), _) => vec![position],
            (_, Some(positions)) => integers("option `from`", &positions)?,
            _ => return Err(expected("option `from`", "a position or an array of them", &value)),
        },
    };
    for position in &mut from {
        *position = linear.map.position(*position)?;
    }
    from.sort_unstable();
    from.dedup();
    let share = options.number("top_p")?;
    let edges = match (options.string("edges")?.as_deref(), share) {
        (Some("top_p"), Some(share)) => Edges::TopP(share),
        (Some("top_p"), None) => {
            return Err(Error::new("`edges: \"top_p\"` needs `top_p`, a share above 0 and up to 1"));
        }
        (_, Some(_)) => return Err(Error::new("option `top_p` goes with `edges: \"top_p\"`")),
        (None | Some("argmax"), None) => Edges::Argmax,
        (Some("all"), None) => Edges::All,
        (Some(other), None) => return Err(unknown("edges", other, &["argmax", "all", "top_p"])),
    };
    let mode = options.choice("mode", &[("eq3", Mode::Eq3), ("released", Mode::Released)])?;
    let granularity = options.choice("granularity", &[("token", Granularity::Token), ("head", Granularity::Head)])?;
    let through = through(options)?;
    let usual = match through {
        Through::Values => Granularity::Token,
        Through::All => Granularity::Head,
    };
    let (mode, granularity) = (mode.unwrap_or(Mode::Eq3), granularity.unwrap_or(usual));
    Ok(GraphRequest { from, to, edges, mode, granularity, until, through })
}

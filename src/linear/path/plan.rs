//! Plans paths before they are computed: their graph, the method, and its cost.

use super::compose::Composer;
use super::draw::draw;
use super::estimate::Estimate;
use super::graph::{Graph, Path};
use super::method::Method;
use super::request::GraphRequest;
use super::score::{Score, Scored, Scorer, TOGETHER};
use super::table::{PathTable, TableOptions, Tally};
use crate::error::Result;
use crate::linear::map::LinearMap;
use crate::linear::readout::{Readout, Scale, Target};

/// Some of the paths to keep, handed over as soon as they are scored.
#[derive(Debug, Clone, Copy)]
pub struct PathBlock<'a> {
    /// The graph whose edges they follow
    pub graph: &'a Graph,
    /// The paths
    pub paths: &'a [(Path, Score)],
    /// The number of paths computed for them
    pub computed: u64,
}

/// Takes the paths of a table block by block, in order.
pub type Sink<'a> = &'a mut dyn FnMut(PathBlock) -> Result<()>;

/// The paths of one map to one answer, measured in one metric, or to one head's score, planned.
#[derive(Debug)]
pub struct Plan<'a> {
    map: &'a LinearMap,
    /// The graph whose paths are computed
    pub graph: Graph,
    readout: Readout,
    options: TableOptions,
    method: Method,
    /// Its cost
    pub estimate: Estimate,
}

impl<'a> Plan<'a> {
    /// Finds the graph and the cheapest method, and estimates the work.
    ///
    /// # Errors
    /// What the checks of [`GraphRequest`] refuse.
    pub fn new(
        map: &'a LinearMap,
        request: GraphRequest,
        answer: i64,
        scale: Scale,
        options: TableOptions,
    ) -> Result<Self> {
        let readout = map.readout(answer, scale, map.position(request.to)?)?;
        Self::to(map, request, readout, options)
    }

    /// The same to what `readout` reads: paths end at its node, wherever the request says.
    ///
    /// # Errors
    /// What the checks of [`GraphRequest`] refuse.
    pub fn to(map: &'a LinearMap, request: GraphRequest, readout: Readout, options: TableOptions) -> Result<Self> {
        let (until, to) = readout.node;
        let graph = Graph::new(map, GraphRequest { until: Some(until), to, ..request })?;
        let scorer = Scorer { map, graph: &graph, readout: &readout, max_rank: options.ranks_wanted() };
        let method = Method::of(options.selection, &scorer);
        let estimate = Estimate::new(&scorer, &options, &method)?;
        Ok(Self { map, graph, readout, options, method, estimate })
    }

    fn scorer(&self) -> Scorer<'_> {
        Scorer { map: self.map, graph: &self.graph, readout: &self.readout, max_rank: self.options.ranks_wanted() }
    }

    /// What the paths lead to.
    pub fn target(&self) -> &Target {
        &self.readout.target
    }

    /// The sum of all paths' values from each start, without enumerating them.
    ///
    /// # Errors
    /// Interruption.
    pub fn sums(&self) -> Result<Vec<f64>> {
        self.scorer().sums()
    }

    /// Refuses more paths (or halves of paths, or 10^6 times as many products) than `limit`.
    ///
    /// # Errors
    /// More would be computed.
    pub fn check_limit(&self, limit: i64) -> Result<()> {
        self.estimate.check_limit(limit)
    }

    /// Refuses work that does not fit in the device's free memory.
    ///
    /// # Errors
    /// More memory would be needed.
    pub fn check_memory(&self) -> Result<()> {
        self.estimate.check_memory(self.map.decoder().output_device())
    }

    /// Computes the paths. Hands the paths to keep to `sink` too, as soon as they are scored.
    ///
    /// # Errors
    /// A path that overflows the model's dtype; interruption; an error raised by `sink`.
    pub fn run(self, sink: Sink) -> Result<PathTable> {
        let scorer = self.scorer();
        let mut tally = Tally::new(&scorer, self.options)?;
        self.score_all(&scorer, &mut |scored| {
            let computed = scored.computed();
            let kept = tally.count(&self.graph, scored);
            sink(PathBlock { graph: &self.graph, paths: &kept, computed })?;
            tally.hold(kept);
            Ok(())
        })?;
        PathTable::new(self.map, self.graph, self.readout, tally)
    }

    /// Hands over all paths of the selection, block by block.
    fn score_all(&self, scorer: &Scorer, take: &mut dyn FnMut(Scored) -> Result<()>) -> Result<()> {
        match &self.method {
            Method::Compose(cuts) => {
                let mut composer = Composer::new(*scorer, cuts)?;
                while let Some(scored) = composer.next_block()? {
                    take(scored)?;
                }
            }
            Method::Draw { count, seed } => {
                for block in draw(&self.graph, *count, *seed).chunks(TOGETHER) {
                    let mut scored = Scored::default();
                    scored.add(block.iter().cloned().zip(scorer.scores(block)?), scorer.is_unranked());
                    take(scored)?;
                }
            }
            Method::Search { meeting, count } => {
                let mut scored = Scored::default();
                scored.add(meeting.search(scorer, *count)?, scorer.is_unranked());
                take(scored)?;
            }
        }
        Ok(())
    }
}

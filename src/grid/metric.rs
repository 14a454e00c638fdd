//! The metrics that effects are measured in.

/// What an effect is measured in. `l` are the last position's logits, `a` is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// l\[a\]: the paper's. It carries a shift that all tokens share
    Logit,
    /// l\[a\] - mean of the logits of other tokens
    LogitDifference,
    /// l\[a\] - mean of all logits
    CentredLogit,
    /// l\[a\] - logsumexp(l)
    LogProbability,
    /// The exponential of the log-probability
    Probability,
    /// 1 / rank
    ReciprocalRank,
    /// 1 + the number of tokens with a higher logit
    Rank,
    /// KL(p_reference ‖ p), in nats
    Kl,
    /// What the caller's function makes of the logits
    Closure,
}

impl Metric {
    /// Every metric with its name in scripts.
    pub const NAMES: [(&'static str, Self); 9] = [
        ("logit", Self::Logit),
        ("logit_difference", Self::LogitDifference),
        ("centred_logit", Self::CentredLogit),
        ("log_probability", Self::LogProbability),
        ("probability", Self::Probability),
        ("rr", Self::ReciprocalRank),
        ("rank", Self::Rank),
        ("kl", Self::Kl),
        ("closure", Self::Closure),
    ];

    /// The metric of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, metric)| *metric)
    }

    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

// A metric's number is its place in the list.
const _: () = {
    let mut place = 0;
    while place < Metric::NAMES.len() {
        assert!(Metric::NAMES[place].1 as usize == place);
        place += 1;
    }
};

/// A metric that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The metric
    pub metric: Metric,
    /// Whether effects are shares of the way from the target's run to that of source and target together
    pub normalised: bool,
}

impl Asked {
    /// The metric as it is.
    pub fn plain(metric: Metric) -> Self {
        Self { metric, normalised: false }
    }
}

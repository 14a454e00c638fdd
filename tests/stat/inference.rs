//! The laws of inference over many hypotheses, of equivalence, power and clusters, as scripts see them.

use crate::support::{engine, message};

#[test]
fn inference_keeps_its_laws() {
    let script = r#"
        // Scales and units say nothing; permutations with one seed are the same.
        let x = randn([5, 30], #{ seed: 2, dtype: "f64" }) + 0.2;
        let test = stats::max_t(x, #{ permutations: 500 });
        let scales = tensor([[1e200], [1.0], [1e-200], [3.0], [1e-310]], #{ dtype: "f64" });
        let scaled = stats::max_t(x * scales, #{ permutations: 500 });
        for field in ["p", "single_step", "step_down"] { assert_eq(scaled[field], test[field]); }
        assert(!test.exact && stats::max_t(x, #{ permutations: 500, seed: 1 }).p != test.p);
        for i in 0..5 { assert(test.p[i] <= test.step_down[i] && test.step_down[i] <= test.single_step[i]); }
        // One hypothesis is a paired permutation test, and a copy of it costs nothing.
        let row = x[0, 0..12].to_array();
        let alone = stats::permutation_test(row, row.map(|v| 0.0), #{ paired: true });
        let twice = stats::max_t([row, row]);
        assert(alone.exact && twice.exact && twice.permutations == 4096);
        for field in ["p", "single_step", "step_down"] { assert_eq(twice[field], [alone.p, alone.p]); }
        // Nothing is found in zeros, and everything in what never changes sign.
        let edges = stats::max_t([[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]]);
        assert(edges.t[0] != edges.t[0] && edges.single_step == [1.0, 2.0 / 128.0]);
        // Clusters of one number are numbers.
        let labels = (0..30).to_array();
        let clustered = stats::max_t(x, #{ permutations: 500, clusters: labels });
        assert_eq(clustered.step_down, test.step_down);
        let sample = x[1].to_array();
        assert_eq(stats::cluster_ttest(sample, labels).p, stats::ttest_1samp(sample, 0).p);
        for method in ["BCa", "percentile", "basic"] {
            let options = #{ method: method, n_resamples: 300 };
            let one = stats::bootstrap_ci(sample, options);
            let other = stats::cluster_bootstrap_ci(sample, labels, options);
            for field in one.keys() { assert((one[field] - other[field]).abs() < 1e-12, `${method}: ${field}`); }
        }
        // Equivalence is an interval within the margin; the end of the margin itself is not.
        for margin in [0.2, 0.4, 0.6, 0.8] {
            let test = stats::tost(sample, margin);
            assert_eq(test.equivalent, -margin < test.low && test.high < margin);
        }
        assert(stats::tost([1, 1, 1], 2).equivalent && !stats::tost([1, 1, 1], 1).equivalent);
        assert(!stats::tost([-1, -1, -1], 1).equivalent && stats::tost([3, 3, 3], 2).p == 1.0);
        // The smallest number of samples is the first that reaches the power.
        for effect in [1e-4, 0.03, 0.2, 0.9, 4.0] {
            let n = stats::ttest_samples(effect, #{ power: 0.9 });
            assert(stats::ttest_power(effect, n) >= 0.9 && (n == 2 || stats::ttest_power(effect, n - 1) < 0.9));
        }
        assert_eq(stats::ttest_power(1e300, 1000000), 1.0);
        assert((stats::ttest_power(0.0, 7, #{ alpha: 0.9, alternative: "less" }) - 0.9).abs() < 1e-12);
        assert_eq(stats::jaccard([1, 1, 2], [2, 3, 4]), 0.25);
        assert_eq(stats::jaccard(["a"], []), 0.0);
        assert_eq(stats::jaccard([[0, 1], "b", 3], [3, "b", [0, 1]]), 1.0);
        assert_eq(stats::jaccard([[3]], [3]), 0.0);
    "#;
    engine().run(script).unwrap_or_else(|error| panic!("{}", message(&error)));
}

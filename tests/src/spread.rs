//! Is a sample of who answered even?

use std::collections::BTreeMap;

/// Pearson's statistic of `counts` against an even spread.
pub fn chi_square(counts: &[u32]) -> f64 {
    let total: u32 = counts.iter().sum();
    let expected = f64::from(total) / counts.iter().map(|_| 1.0).sum::<f64>();
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

/// A bound on the statistic for `kinds` kinds that an even spread exceeds less than once in 10^9
/// runs.
///
/// Laurent and Massart (2000), lemma 1: P(X >= k + 2 sqrt(k x) + 2 x) <= exp(-x) for k degrees of
/// freedom; with x = 9 ln 10 that is 10^-9. Generous: for few degrees of freedom the true quantile
/// is a little lower.
pub fn bound(kinds: u32) -> f64 {
    let freedom = f64::from(kinds.saturating_sub(1));
    let x = 9.0 * std::f64::consts::LN_10;
    freedom + 2.0 * (freedom * x).sqrt() + 2.0 * x
}

/// Fails with the counts unless `answers` are spread evenly over exactly the names `expected`.
pub fn assert_even<'a>(answers: impl IntoIterator<Item = &'a str>, expected: &[&str]) -> Result<(), String> {
    let mut counts: BTreeMap<&str, u32> = expected.iter().map(|name| (*name, 0)).collect();
    for answer in answers {
        *counts
            .get_mut(answer)
            .ok_or_else(|| format!("{answer} answered, which is none of {expected:?}"))? += 1;
    }
    let statistic = chi_square(&counts.values().copied().collect::<Vec<_>>());
    let bound = bound(expected.iter().map(|_| 1).sum());
    if statistic > bound {
        return Err(format!("not even: {counts:?}, chi-square {statistic:.1} above {bound:.1}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistic_of_known_samples() {
        assert!(chi_square(&[50, 50]).abs() < 1e-9);
        assert!((chi_square(&[60, 40]) - 4.0).abs() < 1e-9);
        assert!((chi_square(&[10, 20, 30]) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn uneven_and_foreign_answers_are_noticed() {
        let sample = |a: usize, b: usize| {
            std::iter::repeat_n("a", a).chain(std::iter::repeat_n("b", b)).collect::<Vec<_>>()
        };
        assert!(assert_even(sample(510, 490), &["a", "b"]).is_ok());
        assert!(assert_even(sample(400, 200), &["a", "b"]).is_err()); // a third and two thirds
        assert!(assert_even(sample(600, 0), &["a", "b"]).is_err());
        assert!(assert_even(sample(300, 300), &["a"]).unwrap_err().contains("b answered"));
    }
}

//! Repeated measurements.

/// Sorted measurements of one thing; at least one.
#[derive(Debug, Clone)]
pub(crate) struct Sample<T>(Vec<T>);

impl<T: Ord + Copy> Sample<T> {
    /// # Panics
    /// Without any measurement.
    pub(crate) fn new(measurements: impl IntoIterator<Item = T>) -> Sample<T> {
        let mut measurements: Vec<T> = measurements.into_iter().collect();
        assert!(!measurements.is_empty(), "a sample has measurements");
        measurements.sort_unstable();
        Sample(measurements)
    }

    pub(crate) fn median(&self) -> T {
        self.percentile(50)
    }

    /// The smallest measurement that `percent` in a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> T {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }
}

/// Measures each of `measures` in turn, `rounds` times over, so that whatever else the machine does
/// meets all of them alike.
pub(crate) fn interleave<T, const N: usize>(
    rounds: usize,
    measures: [&dyn Fn() -> anyhow::Result<T>; N],
) -> anyhow::Result<[Vec<T>; N]> {
    let mut all = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        for (measure, measured) in measures.iter().zip(&mut all) {
            measured.push(measure()?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred = Sample::new((1..=100).rev());
        for (percent, expected) in [(0, 1), (1, 1), (50, 50), (99, 99), (100, 100)] {
            assert_eq!(hundred.percentile(percent), expected, "p{percent} of 1..=100");
        }
        assert_eq!(Sample::new([7]).percentile(99), 7);
        assert_eq!(Sample::new([3, 1, 2]).median(), 2);
        assert_eq!(Sample::new([1, 2, 3, 4]).median(), 2);
    }
}

use serde::Serialize;

/// How figures of the rounds are spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) p10: f64,
    pub(crate) p90: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of one figure for each round; all zero when there is none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent| at(&sorted, percent).copied().unwrap_or(0.0);
        Self { median: at(50), p10: at(10), p90: at(90), min: at(0), max: at(100) }
    }
}

/// The item below which so many percent of a sorted list lie.
pub(crate) fn at<T>(sorted: &[T], percent: usize) -> Option<&T> {
    sorted.get(sorted.len().checked_sub(1)? * percent / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_that_of_the_sorted_figures() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(spread, Spread { median: 3.0, p10: 1.0, p90: 4.0, min: 1.0, max: 5.0 });
        assert_eq!(Spread::of([7.0]).p90, 7.0);
        assert_eq!(Spread::of([]).median, 0.0);
    }

    #[test]
    fn percentiles_stay_inside() {
        let sorted: Vec<u32> = (0..=100).collect();
        assert_eq!(at(&sorted, 99), Some(&99));
        assert_eq!(at(&sorted, 100), Some(&100));
        assert_eq!(at::<u32>(&[], 50), None);
    }
}

//! How often a latency occurred.

use selvedge_core::time::Duration;

/// Counts of latencies, 0.1 ms wide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

/// Microseconds per bucket.
const WIDTH: u128 = 100;

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        let bucket = (latency.as_micros() / WIDTH) as usize;
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Counts all of another.
    pub fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The least latency, in milliseconds, that `share` of all do not exceed; 0 if there is none.
    pub fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return bucket as f64 / 10.0;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::default();
        for millis in (1..=100).rev() {
            histogram.add(Duration::from_millis(millis));
        }
        let exact = |share| (histogram.percentile(share) * 10.0).round() as u64;
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(exact), [10, 500, 990, 1000]);
        let mut twice = histogram.clone();
        twice.merge(&histogram);
        assert_eq!((twice.count(), (twice.percentile(0.5) * 10.0).round() as u64), (200, 500));
    }
}

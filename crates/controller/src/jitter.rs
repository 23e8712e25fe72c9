//! A little chance, so that many who wait do not all come back at once.

use std::time::Duration;

/// A duration within a tenth of this one, another one each time.
pub(crate) fn spread(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * chance())
}

/// A number from 0 to 1, hard to predict but not fit for secrets.
pub(crate) fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::hash::RandomState::new().build_hasher().finish() >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let numerator = bits as f64;
    numerator / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spread_by_a_tenth() {
        for _ in 0..100 {
            let spread = spread(Duration::from_secs(100));
            assert!((Duration::from_secs(90)..=Duration::from_secs(110)).contains(&spread));
        }
    }
}

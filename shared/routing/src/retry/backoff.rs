//! How long to wait before a request is sent once more.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use rand::Rng;

use crate::text::number;

/// Waits that are longer for each retry, and random, so that those who failed together do not come again together.
///
/// A wait is any number of whole milliseconds below a bound, which is the base for the first retry and twice the one before
/// for those after it, up to the maximum.
/// Envoy's [description] gives the bounds as 1, 3 and 7 times the base; what it does is 1, 2 and 4.
///
/// [description]: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#config-http-filters-router-x-envoy-max-retries
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    base: u64,
    max: u64,
}

/// Waits that the response itself asks for, as Envoy's [`RateLimitedRetryBackOff`] says them.
///
/// [`RateLimitedRetryBackOff`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-retrypolicy-ratelimitedretrybackoff
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitedBackOff {
    /// The headers that say when to come again, in the order in which they are asked.
    pub headers: Vec<(Box<str>, ResetFormat)>,
    /// The longest wait that is believed; [`RateLimitedBackOff::DEFAULT_MAX`] unless told otherwise.
    pub max: Duration,
}

/// How a header says when to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetFormat {
    /// In how many seconds.
    Seconds,
    /// At how many seconds after the beginning of 1970.
    UnixTimestamp,
}

impl RateLimitedBackOff {
    /// The longest wait that is believed unless told otherwise.
    pub const DEFAULT_MAX: Duration = Duration::from_secs(300);
}

impl BackOff {
    /// Waits with a base and a maximum, ten times the base where there is none.
    ///
    /// Less than a millisecond counts as one, and a maximum below the base as the base.
    #[must_use]
    pub fn new(base: Duration, max: Option<Duration>) -> Self {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let base = milliseconds(base).max(1);
        Self { base, max: max.map_or_else(|| base.saturating_mul(10), milliseconds).max(base) }
    }

    /// The bound of the first wait, in milliseconds.
    pub(super) const fn first(self) -> u64 {
        self.base
    }

    /// The bound after another one, in milliseconds.
    pub(super) const fn next(self, bound: u64) -> u64 {
        if bound < self.max / 2 { bound * 2 } else { self.max }
    }
}

impl Default for BackOff {
    fn default() -> Self {
        Self::new(Duration::from_millis(25), None)
    }
}

impl RateLimitedBackOff {
    /// How long the response asks to wait, and up to half as long again.
    pub(super) fn wait(&self, headers: &HeaderMap, now: SystemTime, random: &mut impl Rng) -> Option<Duration> {
        let intervals = self.headers.iter().filter_map(|(name, format)| {
            let count = number(headers.get(&**name)?.as_bytes())?;
            match format {
                ResetFormat::Seconds => Some(Duration::from_secs(count)),
                ResetFormat::UnixTimestamp => {
                    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                    count.checked_sub(now).map(Duration::from_secs)
                }
            }
        });
        let interval = intervals.into_iter().find(|interval| *interval <= self.max)?;
        let milliseconds = u64::try_from(interval.as_millis()).ok()?;
        let jitter = random.next_u64().checked_rem(milliseconds / 2)?;
        Some(interval + Duration::from_millis(jitter))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn bounds(back_off: BackOff) -> Vec<u64> {
        std::iter::successors(Some(back_off.first()), |bound| Some(back_off.next(*bound))).take(6).collect()
    }

    #[test]
    fn bounds_double_up_to_the_maximum() {
        let ms = Duration::from_millis;
        assert_eq!(bounds(BackOff::default()), [25, 50, 100, 200, 250, 250]);
        assert_eq!(bounds(BackOff::new(ms(10), Some(ms(40)))), [10, 20, 40, 40, 40, 40]);
        assert_eq!(bounds(BackOff::new(ms(10), Some(ms(1)))), [10; 6]);
        assert_eq!(bounds(BackOff::new(Duration::ZERO, None)), [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_response_says_how_long_to_wait() {
        let back_off = RateLimitedBackOff {
            headers: vec![("retry-after".into(), ResetFormat::Seconds), ("reset".into(), ResetFormat::UnixTimestamp)],
            max: Duration::from_secs(300),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_900);
        let mut random = SmallRng::seed_from_u64(1);
        let mut waits = |retry_after: &'static str, reset: &'static str| {
            let headers = [("retry-after", retry_after), ("reset", reset)]
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            back_off.wait(&HeaderMap::from_iter(headers), now, &mut random)
        };
        let second = Duration::from_secs(1);
        let between =
            |wait: Option<Duration>, low: Duration| wait.is_some_and(|wait| low <= wait && wait < low * 3 / 2);
        for _ in 0..100 {
            assert!(between(waits("20", "0"), 20 * second));
            assert!(between(waits("301", "1010"), 10 * second));
            assert!(between(waits("soon", "1300"), 300 * second));
        }
        assert_eq!(waits("301", "999"), None);
        assert_eq!(waits("301", "1301"), None);
        assert_eq!(waits("0", "1010"), None);
    }
}

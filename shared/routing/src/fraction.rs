//! Which share of requests something happens to.

use rand::{Rng, RngExt};

/// A share, as Envoy's [`FractionalPercent`] says it; none unless told otherwise.
///
/// [`FractionalPercent`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/v3/percent.proto#type-v3-fractionalpercent
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fraction {
    /// How many of `denominator`; as many or more are all.
    pub numerator: u32,
    /// How many make a whole.
    pub denominator: Denominator,
}

/// How many make a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Denominator {
    /// 100.
    #[default]
    Hundred,
    /// 10 000.
    TenThousand,
    /// 1 000 000.
    Million,
}

impl Fraction {
    /// Everything.
    pub const ALL: Self = Self { numerator: 100, denominator: Denominator::Hundred };

    /// Whether the share includes the request with the number `random`.
    ///
    /// ```
    /// let half = routing::Fraction { numerator: 50, denominator: routing::Denominator::Hundred };
    /// assert!(half.includes(149));
    /// assert!(!half.includes(150));
    /// ```
    #[must_use]
    pub fn includes(self, random: u64) -> bool {
        let whole = match self.denominator {
            Denominator::Hundred => 100,
            Denominator::TenThousand => 10_000,
            Denominator::Million => 1_000_000,
        };
        random % whole < u64::from(self.numerator)
    }

    /// Whether it happens this time.
    pub fn hits(self, random: &mut impl Rng) -> bool {
        self.includes(random.random())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_share_is_of_its_denominator() {
        use Denominator::{Hundred, Million, TenThousand};
        for (denominator, whole) in [(Hundred, 100), (TenThousand, 10_000), (Million, 1_000_000)] {
            let fraction = Fraction { numerator: 3, denominator };
            let taken: Vec<u64> = (whole..2 * whole).filter(|random| fraction.includes(*random)).collect();
            assert_eq!(taken, [whole, whole + 1, whole + 2]);
        }
    }

    #[test]
    fn it_happens_always_never_or_sometimes() {
        let mut random = StdRng::seed_from_u64(1);
        let mut count = |fraction: Fraction| (0..1000).filter(|_| fraction.hits(&mut random)).count();
        assert_eq!(count(Fraction::default()), 0);
        assert_eq!(count(Fraction::ALL), 1000);
        assert_eq!(count(Fraction { numerator: u32::MAX, ..Fraction::default() }), 1000);
        assert!((400..600).contains(&count(Fraction { numerator: 50, ..Fraction::default() })));
    }
}

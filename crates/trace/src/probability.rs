//! Probabilities without rounding.

use std::fmt;

use num_bigint::BigUint;
use num_integer::Integer;

/// A probability as an exact fraction, in lowest terms.
///
/// The denominator is kept as an odd factor times a power of two: the rules of iptables draw from
/// 2³¹ numbers each, so their fractions are reduced by shifting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probability {
    numerator: BigUint,
    odd: BigUint,
    /// The denominator is `odd << shift`.
    shift: u64,
}

impl Probability {
    /// Certainty.
    pub fn one() -> Probability {
        Probability { numerator: BigUint::from(1u8), odd: BigUint::from(1u8), shift: 0 }
    }

    /// Impossibility.
    pub fn zero() -> Probability {
        Probability { numerator: BigUint::ZERO, odd: BigUint::from(1u8), shift: 0 }
    }

    /// `numerator / denominator`; more than one counts as one, and of no possibilities as none.
    pub fn ratio(numerator: u64, denominator: u64) -> Probability {
        if denominator == 0 {
            return Probability::zero();
        }
        let shift = denominator.trailing_zeros();
        Probability {
            numerator: BigUint::from(numerator.min(denominator)),
            odd: BigUint::from(denominator >> shift),
            shift: u64::from(shift),
        }
        .reduced()
    }

    /// Both of two independent choices.
    #[must_use]
    pub fn and(&self, other: &Probability) -> Probability {
        if self.is_one() {
            return other.clone();
        }
        if other.is_one() {
            return self.clone();
        }
        Probability {
            numerator: &self.numerator * &other.numerator,
            odd: &self.odd * &other.odd,
            shift: self.shift + other.shift,
        }
        .reduced()
    }

    /// Either of two choices that exclude each other.
    #[must_use]
    pub fn or(&self, other: &Probability) -> Probability {
        let shift = self.shift.max(other.shift);
        let (mine, theirs) =
            (&self.numerator << (shift - self.shift), &other.numerator << (shift - other.shift));
        if self.odd == other.odd {
            return Probability { numerator: mine + theirs, odd: self.odd.clone(), shift }.reduced();
        }
        Probability { numerator: mine * &other.odd + theirs * &self.odd, odd: &self.odd * &other.odd, shift }
            .reduced()
    }

    /// That it does not happen.
    #[must_use]
    pub fn complement(&self) -> Probability {
        let denominator = &self.odd << self.shift;
        let numerator =
            if self.numerator < denominator { denominator - &self.numerator } else { BigUint::ZERO };
        Probability { numerator, odd: self.odd.clone(), shift: self.shift }.reduced()
    }

    /// Whether it is certain.
    pub fn is_one(&self) -> bool {
        self.shift == 0 && self.numerator == self.odd
    }

    /// Whether it is impossible.
    pub fn is_zero(&self) -> bool {
        self.numerator == BigUint::ZERO
    }

    /// Numerator and denominator, in decimal digits.
    pub fn fraction(&self) -> (String, String) {
        (self.numerator.to_string(), (&self.odd << self.shift).to_string())
    }

    /// How many bits the denominator has.
    pub(crate) fn denominator_bits(&self) -> u64 {
        self.odd.bits() + self.shift
    }

    /// The nearest floating-point number, give or take a few units in the last place.
    pub fn to_f64(&self) -> f64 {
        let (numerator, up) = leading(&self.numerator);
        let (odd, down) = leading(&self.odd);
        let exponent = i128::from(up) - i128::from(down) - i128::from(self.shift);
        let exponent = i32::try_from(exponent).unwrap_or(i32::MIN);
        // In two steps, so that the scale alone does not underflow.
        numerator / odd * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
    }

    fn reduced(mut self) -> Probability {
        if self.is_zero() {
            return Probability::zero();
        }
        let twos = self.numerator.trailing_zeros().unwrap_or(0).min(self.shift);
        if twos > 0 {
            self.numerator >>= twos;
            self.shift -= twos;
        }
        if self.odd != BigUint::from(1u8) {
            let common = self.numerator.gcd(&self.odd);
            if common != BigUint::from(1u8) {
                self.numerator /= &common;
                self.odd /= &common;
            }
        }
        self
    }
}

/// The leading 53 bits of `number`, and how many bits follow them.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn leading(number: &BigUint) -> (f64, u64) {
    let below = number.bits().saturating_sub(53);
    let top = number >> below;
    (top.iter_u64_digits().next().unwrap_or(0) as f64, below)
}

impl fmt::Display for Probability {
    /// As a fraction while it is short, else as a decimal number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() || self.is_zero() {
            return write!(f, "{}", self.numerator);
        }
        let denominator = &self.odd << self.shift;
        if denominator.bits() <= 14 {
            return write!(f, "{}/{denominator}", self.numerator);
        }
        write!(f, "{:.11}", self.to_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_exact_and_in_lowest_terms() {
        let third = Probability::ratio(1, 3);
        let half = Probability::ratio(2, 4);
        assert_eq!(half.to_string(), "1/2");
        assert_eq!(third.or(&third).or(&third), Probability::one(), "three thirds are one");
        assert_eq!(third.and(&half).to_string(), "1/6");
        assert_eq!(third.complement().and(&half), third, "half of the rest is a third");
        assert_eq!(Probability::ratio(5, 3), Probability::one(), "at most one");
        assert_eq!(Probability::ratio(1, 0), Probability::zero());
        assert!(Probability::ratio(1 << 31, 1 << 31).is_one());
    }

    #[test]
    fn long_products_neither_overflow_nor_vanish() {
        let mut rest = Probability::one();
        let mut sum = Probability::zero();
        for endpoints in (1..=200u32).rev() {
            let drawn =
                Probability::ratio(((1u64 << 31) + u64::from(endpoints) / 2) / u64::from(endpoints), 1 << 31);
            sum = sum.or(&rest.and(&drawn));
            rest = rest.and(&drawn.complement());
        }
        assert!(sum.is_one() && rest.is_zero());
        let tiny = (0..40).fold(Probability::one(), |tiny, _| tiny.and(&Probability::ratio(1, 1 << 31)));
        assert!(tiny.to_f64() < f64::MIN_POSITIVE && !tiny.is_zero(), "below what a float holds");
        assert!((Probability::ratio(715_827_883, 1 << 31).to_f64() - 0.333_333_333_49).abs() < 1e-11);
    }
}

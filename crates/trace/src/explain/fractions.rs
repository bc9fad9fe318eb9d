//! Probabilities for people.

use super::explanation::Chance;

/// The fraction with the smallest denominator that is as good as `chance`: rules of iptables round
/// (spec §5.30, §5.45).
fn nearest(probability: f64) -> Option<(u32, u32)> {
    (1..=1000u32).find_map(|denominator| {
        let numerator = (probability * f64::from(denominator)).round();
        let off = (probability - numerator / f64::from(denominator)).abs() * f64::from(denominator);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 1000")]
        (numerator >= 1.0 && off < 1e-4).then_some((numerator as u32, denominator))
    })
}

/// As a fraction, `about` one if rules have rounded it.
pub(super) fn written(chance: &Chance) -> String {
    if chance.is_certain() {
        return "always".to_owned();
    }
    if let Some(short) = chance.fraction.as_ref().filter(|fraction| fraction.len() <= 9) {
        return short.clone();
    }
    match nearest(chance.probability) {
        Some((numerator, denominator)) if numerator < denominator => {
            format!("about {numerator}/{denominator} ({:.11})", chance.probability)
        }
        _ => format!("{:.11}", chance.probability),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probability::Probability;

    #[test]
    fn roundings_are_recognised() {
        let drawn = |numerator| Probability::ratio(numerator, 1 << 31);
        let cases = [
            ("exact", Probability::ratio(1, 3), "1/3"),
            ("certain", Probability::one(), "always"),
            ("a third of iptables (§14.3)", drawn(715_827_883), "about 1/3 (0.33333333349)"),
            ("a third of 2017, five decimals (§5.45)", drawn(715_820_724), "about 1/3 (0.33332999982)"),
            ("a hundredth", drawn(21_474_836), "about 1/100 (0.00999999978)"),
            ("next to nothing", drawn(1), "0.00000000047"),
        ];
        for (name, probability, expected) in cases {
            assert_eq!(written(&Chance::from(&probability)), expected, "{name}");
        }
    }
}

//! Figures, and how they are printed.

use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "unit", content = "value", rename_all = "lowercase")]
pub(crate) enum Figure {
    Nanoseconds(u64),
    Bytes(u64),
}

impl Figure {
    pub(crate) fn time(time: Duration) -> Figure {
        Figure::Nanoseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn value(self) -> f64 {
        match self {
            Figure::Nanoseconds(value) | Figure::Bytes(value) => value as f64,
        }
    }

    fn text(self) -> String {
        let (steps, mut value): (&[(&str, f64)], f64) = match self {
            Figure::Nanoseconds(_) => {
                (&[("ns", 10_000.0), ("us", 10_000.0), ("ms", 10_000.0), ("s", f64::MAX)], self.value())
            }
            Figure::Bytes(_) => (&[("B", 10_000.0), ("kB", 10_000.0), ("MB", f64::MAX)], self.value()),
        };
        for (unit, below) in steps {
            if value < *below {
                let digits = usize::from(value < 100.0 && !matches!(*unit, "ns" | "B"));
                return format!("{value:.digits$} {unit}");
            }
            value /= 1000.0;
        }
        unreachable!("the last unit takes every value")
    }
}

/// What a figure must be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Required {
    /// The baseline is at least this many times the figure.
    TimesBetter(f64),
    /// The figure is at most this.
    AtMost(Figure),
}

/// One line of a report: a measure of a case, with what it is compared to.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) bench: &'static str,
    pub(crate) case: String,
    pub(crate) measure: String,
    pub(crate) figure: Figure,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) baseline: Option<Baseline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) required: Option<Required>,
}

/// What a figure is compared to, from the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) figure: Figure,
}

impl Line {
    pub(crate) fn new(
        bench: &'static str,
        case: impl Display,
        measure: impl Into<String>,
        figure: Figure,
    ) -> Line {
        Line {
            bench,
            case: case.to_string(),
            measure: measure.into(),
            figure,
            baseline: None,
            required: None,
        }
    }

    pub(crate) fn against(mut self, name: &'static str, figure: Figure) -> Line {
        self.baseline = Some(Baseline { name, figure });
        self
    }

    pub(crate) fn required(mut self, required: Required) -> Line {
        self.required = Some(required);
        self
    }

    /// The figure as a part of its baseline.
    fn ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.figure.value() / baseline.figure.value())
    }

    /// Whether it is as required; `None` where nothing is required, or the baseline is missing.
    pub(crate) fn met(&self) -> Option<bool> {
        Some(match self.required? {
            Required::TimesBetter(times) => self.ratio()? <= 1.0 / times,
            Required::AtMost(most) => self.figure.value() <= most.value(),
        })
    }

    fn cells(&self) -> [String; 6] {
        let (baseline, ratio) = match (&self.baseline, self.ratio()) {
            (Some(baseline), Some(ratio)) => {
                (format!("{} {}", baseline.name, baseline.figure.text()), format!("{ratio:.3}"))
            }
            _ => (String::new(), String::new()),
        };
        let required = match self.required {
            None => String::new(),
            Some(Required::TimesBetter(times)) => format!("1/{times}"),
            Some(Required::AtMost(most)) => format!("at most {}", most.text()),
        };
        let verdict = match (self.required, self.met()) {
            (None, _) => "",
            (Some(_), None) => " not compared",
            (Some(_), Some(true)) => " met",
            (Some(_), Some(false)) => " MISSED",
        };
        [self.case.clone(), self.measure.clone(), self.figure.text(), baseline, ratio, required + verdict]
    }
}

/// The lines of one benchmark as a table for people.
pub(crate) fn table(lines: &[Line]) -> String {
    let head = ["case", "measure", "Portolan", "baseline", "ratio", "required"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(lines.iter().map(Line::cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> =
            row.iter()
                .zip(widths)
                .enumerate()
                .map(|(column, (cell, width))| {
                    if matches!(column, 2 | 4) {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                })
                .collect();
        text += "  ";
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        for (figure, expected) in [
            (Figure::Nanoseconds(0), "0 ns"),
            (Figure::Nanoseconds(3_349), "3349 ns"),
            (Figure::Nanoseconds(18_040_000), "18.0 ms"),
            (Figure::Nanoseconds(690_000_000), "690 ms"),
            (Figure::Nanoseconds(16_000_000_000), "16.0 s"),
            (Figure::Bytes(90), "90 B"),
            (Figure::Bytes(49_000_000), "49.0 MB"),
            (Figure::Bytes(60_800_000_000), "60800 MB"),
        ] {
            assert_eq!(figure.text(), expected);
        }
    }

    #[test]
    fn requirements() {
        let line = |figure| Line::new("load", "1x1", "wall", Figure::Nanoseconds(figure));
        let times = Required::TimesBetter(3.0);
        let most = Required::AtMost(Figure::Nanoseconds(10));
        for (name, line, expected) in [
            ("nothing required", line(1), None),
            ("no baseline", line(1).required(times), None),
            ("better", line(99).against("nft -f", Figure::Nanoseconds(300)).required(times), Some(true)),
            ("worse", line(101).against("nft -f", Figure::Nanoseconds(300)).required(times), Some(false)),
            ("within", line(10).required(most), Some(true)),
            ("beyond", line(11).required(most), Some(false)),
        ] {
            assert_eq!(line.met(), expected, "{name}");
        }
    }
}

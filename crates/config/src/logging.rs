//! How log lines are written: defaults and validation (spec §10.18).

use crate::config::{LogFormat, LogStreams, Logging, Vmodule};
use crate::gates::Gate;
use crate::numbers::not_negative;
use crate::object::{self, Object};
use crate::problems::Problems;

/// The logging that `object` asks for.
pub(crate) fn logging(object: &Object, problems: &mut Problems<'_>) -> Logging {
    let given = &object.logging;
    let format = match given.format.as_str() {
        "" | "text" => LogFormat::Text,
        "json" => {
            if !Gate::LoggingBetaOptions.enabled(&object.feature_gates) {
                problems.error("logging.format", "json needs the feature gate LoggingBetaOptions");
            }
            LogFormat::Json
        }
        other => {
            problems.error("logging.format", format!("{other:?} is not one of text, json"));
            LogFormat::Text
        }
    };
    let mut verbosity = |field: &str, level: i64| {
        i32::try_from(level).ok().and_then(|level| u32::try_from(level).ok()).unwrap_or_else(|| {
            problems.error(field, format!("{level} is not in 0-{}", i32::MAX));
            0
        })
    };
    let level = verbosity("logging.verbosity", given.verbosity.unwrap_or_default());
    let mut vmodule = Vec::new();
    for (i, item) in given.vmodule.iter().enumerate() {
        let verbosity = verbosity(&format!("logging.vmodule[{i}].verbosity"), item.verbosity);
        vmodule.push(Vmodule { file_pattern: item.file_pattern.clone(), verbosity });
    }
    for (i, item) in vmodule.iter().enumerate() {
        if item.file_pattern.is_empty() || item.file_pattern.contains(['=', ',']) {
            let message = format!("{:?} is not a file's name without = and ,", item.file_pattern);
            problems.error(&format!("logging.vmodule[{i}].filePattern"), message);
        }
    }
    if !vmodule.is_empty() && format != LogFormat::Text {
        problems.error("logging.vmodule", format!("only with logging.format text, which is {format}"));
    }
    Logging {
        format,
        flush_frequency: not_negative("logging.flushFrequency", given.flush_frequency, 5, problems),
        verbosity: level,
        vmodule,
        text: streams("text", &given.text, object, problems),
        json: streams("json", &given.json, object, problems),
    }
}

fn streams(
    format: &str,
    given: &object::LogStreams,
    object: &Object,
    problems: &mut Problems<'_>,
) -> LogStreams {
    let field = |name: &str| format!("logging.options.{format}.{name}");
    let info_buffer_size = bytes(&given.info_buffer_size).unwrap_or_else(|| {
        let message = format!("{:?} is not a number of bytes such as 65536 or 64Ki", given.info_buffer_size);
        problems.error(&field("infoBufferSize"), message);
        0
    });
    let streams = LogStreams { split_stream: given.split_stream.unwrap_or_default(), info_buffer_size };
    for (name, is_set) in [("splitStream", streams.split_stream), ("infoBufferSize", info_buffer_size != 0)] {
        if is_set && !Gate::LoggingAlphaOptions.enabled(&object.feature_gates) {
            problems.error(&field(name), "is an alpha option: it needs the feature gate LoggingAlphaOptions");
        }
    }
    streams
}

/// A Kubernetes quantity that is a whole number of bytes.
fn bytes(text: &str) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let (number, suffix) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000 * 1000,
        "G" => 1000 * 1000 * 1000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    // The reference holds it in 64 bits with a sign.
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok())
}

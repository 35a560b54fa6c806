//! What a step expects of its answer.

use serde_json::{Map, Value};

/// What does not fit, at which place of the answer.
pub(crate) fn differs(at: &str, wanted: &Value, found: Option<&Value>) -> Option<String> {
    let differs_here = || {
        Some(format!(
            "{at} is {}, not {wanted}",
            found.unwrap_or(&"missing".into())
        ))
    };
    let Some(found) = found else {
        return differs_here();
    };
    match (wanted, found) {
        (Value::Object(rule), _) if rule.keys().any(|name| name.starts_with('$')) => {
            (!keeps(rule, found)).then(differs_here).flatten()
        }
        (Value::Object(wanted), Value::Object(_)) => wanted
            .iter()
            .find_map(|(name, wanted)| differs(&format!("{at}.{name}"), wanted, found.get(name))),
        (Value::Array(wanted), Value::Array(all)) if wanted.len() == all.len() => wanted
            .iter()
            .enumerate()
            .find_map(|(i, wanted)| differs(&format!("{at}[{i}]"), wanted, all.get(i))),
        (Value::Number(wanted), Value::Number(found)) => (wanted != found
            && wanted.as_f64() != found.as_f64())
        .then(differs_here)
        .flatten(),
        (wanted, found) if wanted == found => None,
        _ => differs_here(),
    }
}

fn keeps(rule: &Map<String, Value>, found: &Value) -> bool {
    let number = |name: &str, or: f64| rule.get(name).map_or(Some(or), Value::as_f64);
    rule.iter().all(|(name, value)| match &**name {
        "$contains" => value.as_array().is_some_and(|texts| {
            let stands = |text: &Value| Some(found.as_str()?.contains(text.as_str()?));
            texts.iter().all(|text| stands(text) == Some(true))
        }),
        "$from" | "$to" => found.as_f64().is_some_and(|found| {
            number("$from", f64::MIN).is_some_and(|from| from <= found)
                && number("$to", f64::MAX).is_some_and(|to| found <= to)
        }),
        "$not" => differs("", value, Some(found)).is_some(),
        _ => false,
    })
}

//! Figures of any kind under their names, for tables whose columns are not always the same.

use std::collections::BTreeMap;

use crate::measure::median;

/// What was measured in one run: a figure for each column of the table.
pub type Figures = BTreeMap<String, f64>;

/// The median of every figure.
pub fn medians(runs: &[Figures]) -> Figures {
    let names = runs.iter().flat_map(Figures::keys);
    names
        .filter_map(|name| {
            Some((
                name.clone(),
                median(runs.iter().filter_map(|run| run.get(name).copied()))?,
            ))
        })
        .collect()
}

/// The figure below which this part of the sorted figures lies.
///
/// # Panics
/// If there are no figures.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// The rows as a markdown table.
pub fn table(rows: &[(&str, &Figures)]) -> String {
    let Some((_, first)) = rows.first() else {
        return String::new();
    };
    let mut text = String::from("| what |");
    text.extend(first.keys().map(|name| format!(" {name} |")));
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(first.len()));
    for (title, figures) in rows {
        text.push_str(&format!("\n| {title} |"));
        text.extend(figures.values().map(|figure| format!(" {figure:.2} |")));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_its_own_median() {
        let run = |a, b| Figures::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let found = medians(&[run(1.0, 9.0), run(2.0, 7.0), run(3.0, 8.0)]);
        assert_eq!(found, run(2.0, 8.0));
        assert_eq!(
            table(&[("x", &found)]),
            "| what | a | b |\n|---|---|---|\n| x | 2.00 | 8.00 |\n"
        );
    }

    #[test]
    fn a_percentile_is_one_of_the_figures() {
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0, 4.0], 0.99), 4.0);
        assert_eq!(percentile(&[1.0], 0.0), 1.0);
    }
}

//! What experiments come to: tables and charts for a page, and whether the goals are reached.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::chart::Chart;

/// The results, as they stand on the page.
#[derive(Debug, Default)]
pub struct Report {
    /// Blocks of text by the name of their place.
    blocks: Vec<(&'static str, String)>,
    /// Charts by the name of their file.
    charts: Vec<(String, Chart)>,
    /// Those of the present experiment.
    goals: Vec<Goal>,
    misses: usize,
}

/// A figure that was promised.
#[derive(Clone, Debug)]
pub struct Goal {
    /// What was to be.
    pub what: String,
    /// How much was promised, for people.
    pub wanted: String,
    /// How much it is, for people.
    pub found: String,
    /// Whether it is as promised.
    pub reached: bool,
}

impl Report {
    /// Adds a block of text for the place of this name.
    pub fn block(&mut self, place: &'static str, text: String) {
        self.blocks.push((place, text));
    }

    /// Adds a chart; its file is `name.svg`.
    pub fn chart(&mut self, name: &str, chart: Chart) {
        self.charts.push((format!("{name}.svg"), chart));
    }

    /// Adds a goal.
    pub fn goal(&mut self, what: &str, wanted: &str, found: String, reached: bool) {
        self.goals.push(Goal {
            what: what.to_owned(),
            wanted: wanted.to_owned(),
            found,
            reached,
        });
    }

    /// How many goals were missed in the experiments that are over.
    pub fn misses(&self) -> usize {
        self.misses
    }

    /// Ends an experiment: the goals that were added since the last one are the block of this name.
    pub fn close(&mut self, place: &'static str) {
        let mut rows = Vec::new();
        for goal in self.goals.drain(..) {
            self.misses += usize::from(!goal.reached);
            let reached = if goal.reached { "yes" } else { "**no**" };
            rows.push(vec![goal.what, goal.wanted, goal.found, reached.to_owned()]);
        }
        self.block(place, table(&["what", "goal", "found", "reached"], rows));
    }

    /// All of it as text, for a terminal.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (place, block) in &self.blocks {
            writeln!(text, "== {place}\n\n{block}\n").expect("memory takes all text");
        }
        text
    }

    /// Writes the blocks into the page, between `<!-- NAME -->` and `<!-- /NAME -->`, and the charts beside it,
    /// into the folder of the page's name.
    ///
    /// # Errors
    /// Of the files.
    ///
    /// # Panics
    /// If the page has no such place for a block.
    pub fn write(&self, page: &Path) -> std::io::Result<()> {
        let mut text = std::fs::read_to_string(page)?;
        for (place, block) in &self.blocks {
            text = with_block(&text, place, block);
        }
        let charts = page.with_extension("");
        std::fs::create_dir_all(&charts)?;
        for (name, chart) in &self.charts {
            std::fs::write(charts.join(name), chart.to_svg())?;
        }
        std::fs::write(page, text)
    }
}

/// The page with a block in its place.
fn with_block(page: &str, place: &str, block: &str) -> String {
    let (opening, closing) = (format!("<!-- {place} -->\n"), format!("<!-- /{place} -->"));
    let parts = page
        .split_once(&opening)
        .and_then(|(before, rest)| Some((before, rest.split_once(&closing)?.1)));
    let (before, after) = parts.unwrap_or_else(|| panic!("the page has no place for {place}"));
    format!("{before}{opening}\n{block}\n{closing}{after}")
}

/// A table in Markdown.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = line(&head) + &"|---".repeat(head.len()) + "|\n";
    for row in rows {
        text += &line(&row);
    }
    text
}

/// A share, in percent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A time, in milliseconds.
pub fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_the_place_of_the_former_one() {
        let page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        let once = with_block(page, "x", "new\n");
        assert_eq!(once, "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n");
        assert_eq!(with_block(&once, "x", "new\n"), once);
    }

    #[test]
    #[should_panic(expected = "no place for y")]
    fn a_block_without_a_place_is_a_fault() {
        with_block("<!-- x -->\n<!-- /x -->", "y", "new");
    }
}

//! Columns that stand under each other.

use crate::failure::Failure;
use crate::out::{Colour, Out};
use crate::text::{harmless, short};

/// A cell: its text, made harmless, and its colour.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
    right: bool,
}

impl Cell {
    /// Text of a job, at most so many characters of it.
    pub(crate) fn text(text: &str, most: usize) -> Self {
        Self {
            text: short(&harmless(text), most).into_owned(),
            ..Self::default()
        }
    }

    /// A number, at the right of its column.
    pub(crate) fn number(number: impl std::fmt::Display) -> Self {
        Self {
            text: number.to_string(),
            right: true,
            ..Self::default()
        }
    }

    pub(crate) fn colour(mut self, colour: Option<Colour>) -> Self {
        self.colour = colour;
        self
    }
}

/// Rows below a head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table whose columns have these names; a name that begins with `>` is that of a column of numbers.
    pub(crate) fn new(names: &[&str]) -> Self {
        let head = names.iter().map(|name| match name.strip_prefix('>') {
            Some(name) => Cell::number(name).colour(Some(Colour::Dim)),
            None => Cell::text(name, usize::MAX).colour(Some(Colour::Dim)),
        });
        Self {
            rows: vec![head.collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width - cell.text.chars().count());
                let painted = out.paint(&cell.text, cell.colour);
                line += if i == 0 { "" } else { "  " };
                // What ends a line needs no room behind it.
                let last = i + 1 == row.len();
                match (cell.right, last) {
                    (true, _) => line += &format!("{pad}{painted}"),
                    (false, true) => line += &painted,
                    (false, false) => line += &format!("{painted}{pad}"),
                }
            }
            out.line(line.trim_end())?;
        }
        Ok(())
    }
}

//! Every job is accounted for, under every policy at once.

use super::{Size, side_by_side};
use crate::overload::books::{self, Books};
use crate::overload::report::{Report, table};

/// The runs: their seeds.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// A hundred million jobs, a million between two looks.
pub fn run(size: Size, report: &mut Report) {
    let jobs = size.pick(100_000_000, 100_000);
    let each = jobs / SEEDS.len() as u64;
    let runs = side_by_side(&SEEDS, |seed| {
        books::run(each, size.pick(1_000_000, 10_000), *seed)
    });
    let none = Books::default();
    let all = runs
        .into_iter()
        .try_fold(none, |sum, run| run.map(|run| sum.and(&run)));
    let (found, reached) = match all {
        Ok(books) => {
            let counted = |(name, count): (&str, u64)| vec![format!("`{name}`"), grouped(count)];
            let rows = books.totals.named().map(counted);
            let text = format!(
                "{} jobs were accepted; {} snapshots balanced and agreed with the ledger.\n\n{}",
                grouped(books.accepted),
                books.snapshots,
                table(&["total", "jobs"], rows)
            );
            report.block("books", text);
            (format!("0 of {}", grouped(books.accepted)), jobs >= 100_000_000)
        }
        Err(fault) => (fault, false),
    };
    report.goal(
        "jobs that are not accounted for, of a hundred million",
        "0",
        found,
        reached,
    );
    report.close("goals-books");
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_in_groups_of_three() {
        assert_eq!(
            ["7", "1 000", "12 345 678"],
            [7, 1000, 12_345_678].map(super::grouped)[..]
        );
    }
}

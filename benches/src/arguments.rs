//! The arguments of a benchmark program: `--name value` pairs, each with a default in the program.

use std::str::FromStr;

/// The arguments, as they were given.
#[derive(Clone, Debug, Default)]
pub struct Arguments(Vec<String>);

impl Arguments {
    /// Those of this process, without the `--bench` that cargo adds.
    pub fn of_process() -> Self {
        std::env::args()
            .skip(1)
            .filter(|text| text != "--bench")
            .collect()
    }

    /// All of them, to be passed on.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// Whether `--name` is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|text| text.strip_prefix("--") == Some(name))
    }

    /// The values of `--name a,b,c`, or else those of `default`.
    ///
    /// # Panics
    /// If one of them cannot be read; the text names it.
    pub fn list<T: FromStr>(&self, name: &str, default: &str) -> Vec<T> {
        let text = self.text(name).unwrap_or(default);
        let read = |item: &str| {
            item.parse()
                .unwrap_or_else(|_| panic!("--{name}: {item:?} does not fit"))
        };
        text.split(',')
            .filter(|item| !item.is_empty())
            .map(read)
            .collect()
    }

    /// The value of `--name`, or else the default.
    ///
    /// # Panics
    /// If it cannot be read; the text names it.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> T {
        self.list(name, "").pop().unwrap_or(default)
    }

    /// The text after `--name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        let place = self
            .0
            .iter()
            .position(|text| text.strip_prefix("--") == Some(name))?;
        self.0.get(place + 1).map(String::as_str)
    }
}

impl<T: Into<String>> FromIterator<T> for Arguments {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        Self(texts.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_has_its_default() {
        let given: Arguments = ["--producers", "1,8", "--alone"].into_iter().collect();
        assert_eq!(given.list::<usize>("producers", "2"), [1, 8]);
        assert_eq!(given.list::<usize>("workers", "2"), [2]);
        assert_eq!(given.value("rounds", 5), 5);
        assert!(given.has("alone") && !given.has("json"));
    }
}

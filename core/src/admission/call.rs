//! The text form that policies share: a name with arguments, as in `share(0.2, floor=1/s)`.

/// One policy as it was written, taken apart.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// What stands before the parenthesis.
    pub(super) name: &'a str,
    /// The arguments without a name, in order.
    plain: Vec<&'a str>,
    /// The arguments with one.
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Call<'a> {
    /// Takes `name(1, key=2)` apart; without parentheses there are no arguments.
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        let (name, inner) = match text.trim().split_once('(') {
            None => (text.trim(), ""),
            Some((name, rest)) => {
                let inner = rest.strip_suffix(')');
                (
                    name.trim(),
                    inner.ok_or_else(|| format!("{text:?}: the closing ) is missing"))?,
                )
            }
        };
        let (mut plain, mut named) = (Vec::new(), Vec::new());
        for argument in inner.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            match argument.split_once('=') {
                Some((key, value)) => named.push((key.trim(), value.trim())),
                None => plain.push(argument),
            }
        }
        plain.reverse();
        Ok(Self { name, plain, named })
    }

    /// The next argument without a name, read by `read`.
    pub(super) fn next<T>(
        &mut self,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        self.plain.pop().map(read).transpose()
    }

    /// The argument `key=`, read by `read`.
    pub(super) fn named<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let at = self.named.iter().position(|(k, _)| *k == key);
        let value = at.map(|at| self.named.remove(at).1);
        value.map(read).transpose().map_err(|why| format!("{key}: {why}"))
    }

    /// Refuses what nobody has asked for.
    pub(super) fn end(self) -> Result<(), String> {
        match (self.plain.first(), self.named.first()) {
            (None, None) => Ok(()),
            (Some(extra), _) => Err(format!("{} does not take {extra:?}", self.name)),
            (_, Some((key, _))) => Err(format!("{} has no {key}=", self.name)),
        }
    }
}

/// A whole number of at least 1.
pub(super) fn count(text: &str) -> Result<u32, String> {
    let number = text.replace('_', "").parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| format!("{text:?} is not a whole number of at least 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_taken_apart() {
        let mut call = Call::read(" f( 1, b=2 ,3)").unwrap();
        assert_eq!((call.name, call.next(count)), ("f", Ok(Some(1))));
        assert_eq!(call.named("b", count), Ok(Some(2)));
        assert_eq!(call.named("c", count), Ok(None));
        assert_eq!(call.next(count), Ok(Some(3)));
        assert_eq!(call.next(count), Ok(None));
        assert_eq!(call.end(), Ok(()));
        assert!(Call::read("f(1").unwrap_err().contains("closing"));
        assert!(Call::read("f(1)").unwrap().end().is_err());
        assert!(Call::read("f(a=1)").unwrap().end().unwrap_err().contains("a="));
        assert!(count("0").is_err() && count("-1").is_err() && count("x").is_err());
    }
}

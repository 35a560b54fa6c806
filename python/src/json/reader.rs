//! JSON text as values, as `json.loads` reads it.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use super::DEEPEST;

/// Reads one value. Each step answers `None` for what it leaves to the `json` module: what is not JSON, and
/// what is not quite JSON but read by that module all the same.
pub struct Reader<'py, 'a> {
    py: Python<'py>,
    text: &'a str,
    /// What comes next.
    at: usize,
}

impl<'py, 'a> Reader<'py, 'a> {
    /// The value that is all of `text`.
    pub fn whole(py: Python<'py>, text: &'a [u8]) -> Option<Bound<'py, PyAny>> {
        let text = std::str::from_utf8(text).ok()?;
        let mut reader = Reader { py, text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        (reader.at == text.len()).then_some(value)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte after white space, if it is this one.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.next()? == byte).then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<Bound<'py, PyAny>> {
        self.space();
        let py = self.py;
        match self.peek()? {
            b'"' => Some(self.string()?.into_any()),
            b'{' if depth < DEEPEST => self.object(depth + 1),
            b'[' if depth < DEEPEST => self.array(depth + 1),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", PyBool::new(py, true).to_owned().into_any()),
            b'f' => self.word("false", PyBool::new(py, false).to_owned().into_any()),
            b'n' => self.word("null", py.None().into_bound(py)),
            _ => None,
        }
    }

    fn word(&mut self, word: &str, value: Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(value)
    }

    fn array(&mut self, depth: usize) -> Option<Bound<'py, PyAny>> {
        self.at += 1;
        let mut values = Vec::new();
        if !self.closes(b']') {
            loop {
                values.push(self.value(depth)?);
                if !self.goes_on(b']')? {
                    break;
                }
            }
        }
        Some(PyList::new(self.py, values).ok()?.into_any())
    }

    fn object(&mut self, depth: usize) -> Option<Bound<'py, PyAny>> {
        self.at += 1;
        let object = PyDict::new(self.py);
        if !self.closes(b'}') {
            loop {
                self.space();
                let name = (self.peek()? == b'"').then(|| self.string())??;
                self.expect(b':')?;
                object.set_item(name, self.value(depth)?).ok()?;
                if !self.goes_on(b'}')? {
                    break;
                }
            }
        }
        Some(object.into_any())
    }

    /// Whether an array or object ends before its first member.
    fn closes(&mut self, end: u8) -> bool {
        self.space();
        let closes = self.peek() == Some(end);
        self.at += usize::from(closes);
        closes
    }

    /// Whether another member follows.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        self.space();
        match self.next()? {
            b',' => Some(true),
            byte if byte == end => Some(false),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Bound<'py, PyString>> {
        self.at += 1;
        let start = self.at;
        let length = self.text.as_bytes()[start..].iter().position(|b| is_odd(*b))?;
        self.at += length;
        if self.peek()? == b'"' {
            self.at += 1;
            return Some(PyString::new(self.py, &self.text[start..start + length]));
        }
        let mut plain = self.text[start..self.at].to_owned();
        loop {
            match self.next()? {
                b'"' => return Some(PyString::new(self.py, &plain)),
                b'\\' => plain.push(self.escaped()?),
                _ => return None,
            }
            let rest = &self.text[self.at..];
            let length = rest.bytes().position(is_odd)?;
            plain.push_str(&rest[..length]);
            self.at += length;
        }
    }

    /// The character that comes after a backslash. Half of a pair alone is none, for us.
    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => byte.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                let pair = self.next()? == b'\\' && self.next()? == b'u';
                let second = self.unit().filter(|_| pair)?;
                let low = (0xdc00..0xe000).contains(&second).then_some(second)?;
                char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00))?
            }
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit << 4 | char::from(self.next()?).to_digit(16)?;
        }
        Some(unit)
    }

    fn number(&mut self) -> Option<Bound<'py, PyAny>> {
        let start = self.at;
        self.at += usize::from(self.peek()? == b'-');
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            (whole, self.at) = (false, self.at + 1);
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            (whole, self.at) = (false, self.at + 1);
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        match (whole, text.parse::<i64>()) {
            (false, _) => Some(PyFloat::new(self.py, text.parse().ok()?).into_any()),
            (true, Ok(small)) => Some(small.into_pyobject(self.py).ok()?.into_any()),
            (true, Err(_)) => self.py.get_type::<PyInt>().call1((text,)).ok(),
        }
    }

    /// One digit, or several.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// Whether a byte of a string does not stand for itself.
fn is_odd(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

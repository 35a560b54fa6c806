//! JSON text as values, as `json.loads` reads it.

use parking_lot::MutexGuard;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use super::DEEPEST;
use super::names::Names;
use super::scan::plain;

/// So many digits always fit into an `i64`.
const EXACT: usize = 18;

/// Reads one value. Each step answers `None` for what it leaves to the `json` module: what is not JSON, and
/// what is not quite JSON but read by that module all the same.
pub struct Reader<'py, 'a> {
    py: Python<'py>,
    text: &'a str,
    /// What comes next.
    at: usize,
    /// The members of the arrays that are being read, innermost last.
    members: Vec<Bound<'py, PyAny>>,
    names: Option<MutexGuard<'static, Names>>,
}

impl<'py, 'a> Reader<'py, 'a> {
    /// The value that is all of `text`.
    pub fn whole(py: Python<'py>, text: &'a [u8]) -> Option<Bound<'py, PyAny>> {
        let mut reader = Reader {
            py,
            text: std::str::from_utf8(text).ok()?,
            at: 0,
            members: Vec::new(),
            names: Names::borrow(),
        };
        let value = reader.value(0)?;
        reader.space();
        (reader.at == text.len()).then_some(value)
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    #[inline]
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
            b'"' => self.string(),
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
        let start = self.members.len();
        if !self.closes(b']') {
            loop {
                let member = self.value(depth)?;
                self.members.push(member);
                if !self.goes_on(b']')? {
                    break;
                }
            }
        }
        Some(PyList::new(self.py, self.members.drain(start..)).ok()?.into_any())
    }

    fn object(&mut self, depth: usize) -> Option<Bound<'py, PyAny>> {
        self.at += 1;
        let object = PyDict::new(self.py);
        if !self.closes(b'}') {
            loop {
                self.space();
                let name = (self.peek()? == b'"').then(|| self.name())??;
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

    fn string(&mut self) -> Option<Bound<'py, PyAny>> {
        let text = match self.simple()? {
            Ok(text) => PyString::new(self.py, text),
            Err(start) => PyString::new(self.py, &self.unescaped(start)?),
        };
        Some(text.into_any())
    }

    /// The name of a member.
    fn name(&mut self) -> Option<Bound<'py, PyString>> {
        let py = self.py;
        Some(match (self.simple()?, &mut self.names) {
            (Ok(text), Some(names)) => names.get(py, text),
            (Ok(text), None) => PyString::new(py, text),
            (Err(start), _) => PyString::new(py, &self.unescaped(start)?),
        })
    }

    /// The text of a string that stands there as it is; where it begins if it does not.
    fn simple(&mut self) -> Option<Result<&'a str, usize>> {
        self.at += 1;
        let start = self.at;
        self.at += plain(&self.text.as_bytes()[start..]);
        if self.peek()? != b'"' {
            return Some(Err(start));
        }
        self.at += 1;
        Some(Ok(&self.text[start..self.at - 1]))
    }

    /// The text of a string that begins at `start` and has come to its first escape.
    fn unescaped(&mut self, start: usize) -> Option<String> {
        let mut text = self.text[start..self.at].to_owned();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => text.push(self.escaped()?),
                _ => return None,
            }
            let rest = &self.text[self.at..];
            let length = plain(rest.as_bytes());
            text.push_str(&rest[..length]);
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
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let first = self.at;
        let value = self.digits()?;
        let digits = self.at - first;
        // Not a number that begins with a 0 and goes on: JSON has none.
        if digits > 1 && self.text.as_bytes()[first] == b'0' {
            return None;
        }
        if !matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return match digits <= EXACT {
                true => self.int(if negative { -value } else { value }),
                false => self.long(start),
            };
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        Some(PyFloat::new(self.py, text.parse().ok()?).into_any())
    }

    fn int(&self, small: i64) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the thread is attached, and the answer is a new reference, or null without memory.
        unsafe { Bound::from_owned_ptr_or_err(self.py, ffi::PyLong_FromLongLong(small)).ok() }
    }

    /// The whole number from `start` to here, of any length.
    #[cold]
    fn long(&self, start: usize) -> Option<Bound<'py, PyAny>> {
        let text = &self.text[start..self.at];
        match text.parse() {
            Ok(small) => self.int(small),
            Err(_) => self.py.get_type::<PyInt>().call1((text,)).ok(),
        }
    }

    /// One digit, or several. What they are as a number is true for up to [`EXACT`] of them.
    #[inline]
    fn digits(&mut self) -> Option<i64> {
        let (start, mut value) = (self.at, 0_i64);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        (self.at > start).then_some(value)
    }
}

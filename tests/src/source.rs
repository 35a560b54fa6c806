//! Which module of which crate mentions which path: a reader of Rust sources for the tests.
//!
//! It reads tokens, not grammar: `use` trees and `a::b::c` paths, resolved through `self`, `super`, imports,
//! renames, re-exports and globs to one full path each. It does not expand macros and knows no types, so a
//! path put together by a macro, or a method called on a value of a foreign type, goes unseen. Neither is a
//! way by which a module comes to know another one by accident, which is what the tests are after.

use std::collections::{BTreeMap, BTreeSet};

/// A module or an item by its full path, crate first: `forebay`, `engine`, `memory`.
pub type Route = Vec<String>;

/// One mention of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// The file it stands in, as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The module it stands in.
    pub from: Route,
    /// What it names, after all imports and re-exports.
    pub to: Route,
    /// Whether it is compiled for tests only.
    pub test: bool,
}

/// A token of Rust that is no comment; literals have lost their contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The identifier, `::`, or one character; `""` for a string and `''` for a character literal.
    pub text: String,
    /// The line, from 1.
    pub line: usize,
}

/// The tokens of a source file.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let text = match (at(i), at(i + 1)) {
            ('/', '/') => {
                i = end_of_line(&chars, i);
                None
            }
            ('/', '*') => {
                i = end_of_comment(&chars, i);
                None
            }
            ('"', _) => {
                i = end_of_string(&chars, i);
                Some("\"\"".to_owned())
            }
            ('\'', '\\') => {
                i = (i + 3..chars.len())
                    .find(|&end| at(end) == '\'')
                    .map_or(chars.len(), |end| end + 1);
                Some("''".to_owned())
            }
            ('\'', _) if at(i + 2) == '\'' => {
                i += 3;
                Some("''".to_owned())
            }
            (':', ':') => {
                i += 2;
                Some("::".to_owned())
            }
            (c, _) if word(c) => {
                i = (i..chars.len())
                    .find(|&end| !word(at(end)))
                    .unwrap_or(chars.len());
                let prefix: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|&&c| c == '#').count();
                let raw = matches!(prefix.as_str(), "r" | "br" | "cr");
                if raw && at(i + hashes) == '"' {
                    i = end_of_raw_string(&chars, i + hashes + 1, hashes);
                    Some("\"\"".to_owned())
                } else if prefix == "r" && hashes == 1 {
                    // A raw identifier: `r#type` is the name `type`.
                    i += 1;
                    None
                } else if matches!(prefix.as_str(), "b" | "c") && matches!(at(i), '"' | '\'') {
                    // The literal that follows is read as one without its prefix.
                    None
                } else {
                    Some(prefix)
                }
            }
            (c, _) => {
                i += 1;
                (!c.is_whitespace()).then(|| c.to_string())
            }
        };
        if let Some(text) = text {
            found.push(Token { text, line });
        }
        line += chars[start..i].iter().filter(|&&c| c == '\n').count();
    }
    found
}

fn end_of_line(chars: &[char], start: usize) -> usize {
    (start..chars.len())
        .find(|&i| chars[i] == '\n')
        .unwrap_or(chars.len())
}

/// Block comments nest.
fn end_of_comment(chars: &[char], start: usize) -> usize {
    let (mut i, mut depth) = (start + 2, 1);
    while i < chars.len() && depth > 0 {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    i
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn end_of_raw_string(chars: &[char], start: usize, hashes: usize) -> usize {
    (start..chars.len())
        .find(|&i| {
            chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
        })
        .map_or(chars.len(), |end| end + 1 + hashes)
}

/// What a set of source files says about itself.
#[derive(Debug, Default)]
pub struct Sources {
    /// Every module, by file or inline.
    pub modules: BTreeSet<Route>,
    /// Modules that are compiled for tests only.
    test_modules: BTreeSet<Route>,
    /// Names that a module defines or brings in: what `use` and `mod` make visible below it.
    aliases: BTreeMap<(Route, String), Written>,
    globs: BTreeMap<Route, Vec<Written>>,
    defines: BTreeSet<(Route, String)>,
    written: Vec<Mention>,
}

/// A path as it stands in the source, with the module it is to be read from.
#[derive(Clone, Debug)]
struct Written {
    scope: Route,
    path: Route,
}

impl Sources {
    /// Reads `(file, crate name, text)` for every file; a file's module follows from its path below `src/`.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Sources {
        let mut sources = Sources::default();
        for (file, crate_name, text) in files {
            let module = module_of(file, crate_name);
            sources.modules.insert(module.clone());
            Reader {
                sources: &mut sources,
                file,
                tokens: &tokens(text),
            }
            .read(module);
        }
        sources
    }

    /// Every mention of a path that leads somewhere, in the order of files and lines.
    pub fn mentions(&self) -> Vec<Mention> {
        let mut found: Vec<Mention> = self
            .written
            .iter()
            .map(|mention| Mention {
                to: self.resolve(&mention.from, &mention.to),
                test: mention.test || self.is_test(&mention.from),
                ..mention.clone()
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }

    fn is_test(&self, module: &Route) -> bool {
        (0..=module.len()).any(|n| self.test_modules.contains(&module[..n]))
    }

    /// The full path of what `path` means when it is read in the module `scope`.
    fn resolve(&self, scope: &Route, path: &Route) -> Route {
        let mut full = self.absolute(scope, path);
        // A re-export can lead to a re-export; the bound stops two that lead to each other.
        for _ in 0..16 {
            match self.follow(&full) {
                Some(next) => full = next,
                None => break,
            }
        }
        full
    }

    /// Reads the first segment: a keyword, an import, a child module, or the name of another crate.
    fn absolute(&self, scope: &Route, path: &Route) -> Route {
        let Some((first, rest)) = path.split_first() else {
            return scope.clone();
        };
        let below = |base: &[String], rest: &[String]| [base, rest].concat();
        match first.as_str() {
            "crate" => below(&scope[..1], rest),
            "self" => self.absolute_below(scope, rest),
            "super" => self.absolute_below(&scope[..scope.len().saturating_sub(1).max(1)], rest),
            _ if self.modules.contains(&below(scope, std::slice::from_ref(first))) => below(scope, path),
            _ => match self.aliases.get(&(scope.clone(), first.clone())) {
                // `use a::b as a` would otherwise be looked up in itself for ever.
                Some(target) if target.path.first() != Some(first) => {
                    below(&self.absolute(&target.scope, &target.path), rest)
                }
                Some(target) => below(&target.path, rest),
                // The library of the C binding is itself called forebay, so its manifest renames the core.
                None if first == "forebay_core" => below(&["forebay".to_owned()], rest),
                None => path.clone(),
            },
        }
    }

    /// `self::` and `super::` can be followed by more `super::`.
    fn absolute_below(&self, scope: &[String], rest: &[String]) -> Route {
        match rest.first().map(String::as_str) {
            Some("super") => self.absolute(&scope.to_vec(), &rest.to_vec()),
            _ => [scope, rest].concat(),
        }
    }

    /// One step through a re-export: `forebay::Dispatcher` to `forebay::dispatcher::Dispatcher`.
    fn follow(&self, full: &Route) -> Option<Route> {
        for n in (1..full.len()).rev() {
            let (module, name, rest) = (full[..n].to_vec(), &full[n], &full[n + 1..]);
            if !self.modules.contains(&module) || self.modules.contains(&full[..=n]) {
                continue;
            }
            if let Some(target) = self.aliases.get(&(module.clone(), name.clone())) {
                let next = [&self.absolute(&target.scope, &target.path)[..], rest].concat();
                return (next != *full).then_some(next);
            }
            for glob in self.globs.get(&module).into_iter().flatten() {
                let from = self.absolute(&glob.scope, &glob.path);
                let key = (from, name.clone());
                if self.defines.contains(&key) || self.aliases.contains_key(&key) {
                    return Some([&key.0[..], &full[n..]].concat());
                }
            }
        }
        None
    }
}

/// `core/src/engine/memory/mod.rs` of the crate `forebay` is `forebay::engine::memory`.
fn module_of(file: &str, crate_name: &str) -> Route {
    let below = file.rsplit_once("src/").map_or(file, |(_, below)| below);
    let below = below.trim_end_matches(".rs");
    let below = below.strip_suffix("/mod").unwrap_or(below);
    std::iter::once(crate_name)
        .chain(below.split('/').filter(|part| !matches!(*part, "lib" | "main")))
        .map(str::to_owned)
        .collect()
}

struct Reader<'a> {
    sources: &'a mut Sources,
    file: &'a str,
    tokens: &'a [Token],
}

impl Reader<'_> {
    fn text(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| &token.text)
    }

    fn is_name(&self, i: usize) -> bool {
        self.text(i).starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    fn read(&mut self, file_module: Route) {
        // The inline modules we are in, each with the brace depth at which it ends.
        let mut inside: Vec<(Route, usize)> = vec![(file_module, 0)];
        let (mut i, mut depth, mut test_until) = (0, 0_usize, 0);
        while i < self.tokens.len() {
            let module = inside
                .last()
                .map(|(module, _)| module.clone())
                .unwrap_or_default();
            let test = i < test_until;
            match self.text(i) {
                "#" => {
                    let (end, for_tests, whole_file) = self.attribute(i);
                    if for_tests && whole_file {
                        self.sources.test_modules.insert(module);
                    } else if for_tests {
                        test_until = test_until.max(self.end_of_item(end));
                    }
                    i = end;
                }
                "{" => (depth, i) = (depth + 1, i + 1),
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inside.len() > 1 && inside.last().is_some_and(|(_, ends)| *ends == depth) {
                        inside.pop();
                    }
                    i += 1;
                }
                "mod" if self.is_name(i + 1) => {
                    let child = [module, vec![self.text(i + 1).to_owned()]].concat();
                    if test {
                        self.sources.test_modules.insert(child.clone());
                    }
                    if self.text(i + 2) == "{" {
                        self.sources.modules.insert(child.clone());
                        inside.push((child, depth));
                    }
                    i += 2;
                }
                "use" => i = self.use_tree(i + 1, &module, &[], test),
                "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static"
                    if self.is_name(i + 1) =>
                {
                    self.sources.defines.insert((module, self.text(i + 1).to_owned()));
                    i += 2;
                }
                _ if self.is_name(i) => i = self.path(i, &module, test),
                _ => i += 1,
            }
        }
    }

    /// An attribute at `i`: where it ends, whether it leaves its item to tests, and whether it is inner.
    fn attribute(&self, i: usize) -> (usize, bool, bool) {
        let inner = self.text(i + 1) == "!";
        let open = i + 1 + usize::from(inner);
        if self.text(open) != "[" {
            return (i + 1, false, false);
        }
        let end = self.closing(open);
        let words: Vec<&str> = (open..end).map(|i| self.text(i)).collect();
        let for_tests = match words.get(1) {
            Some(&"test") => words.len() == 3,
            Some(&"cfg") => needs_test(&words[1..]),
            _ => false,
        };
        (end, for_tests, inner)
    }

    /// The index after the bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for i in open..self.tokens.len() {
            match self.text(i) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return i + 1;
            }
        }
        self.tokens.len()
    }

    fn end_of_item(&self, start: usize) -> usize {
        let mut i = start;
        while i < self.tokens.len() {
            match self.text(i) {
                ";" => return i + 1,
                "{" => return self.closing(i),
                "(" | "[" => i = self.closing(i),
                _ => i += 1,
            }
        }
        self.tokens.len()
    }

    /// Reads one use tree below `prefix` and gives the index of what follows it.
    fn use_tree(&mut self, start: usize, module: &Route, prefix: &[String], test: bool) -> usize {
        let mut path = prefix.to_vec();
        let mut i = start;
        loop {
            match self.text(i) {
                "{" => {
                    let end = self.closing(i);
                    i += 1;
                    while i + 1 < end {
                        i = self.use_tree(i, module, &path, test);
                        i += usize::from(self.text(i) == ",");
                    }
                    return end;
                }
                "*" => {
                    let target = Written {
                        scope: module.clone(),
                        path: path.clone(),
                    };
                    self.sources.globs.entry(module.clone()).or_default().push(target);
                    self.mention(i, module, &path, test);
                    return i + 1;
                }
                "::" => i += 1,
                // In `a::{self, b}` the group itself is meant; in `self::a` it is a first segment.
                "self" if !path.is_empty() => i += 1,
                _ if self.is_name(i) && self.text(i) != "as" => {
                    path.push(self.text(i).to_owned());
                    i += 1;
                    if self.text(i) != "::" {
                        break;
                    }
                }
                _ => break,
            }
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.text(i) == "as" {
            name = self.text(i + 1).to_owned();
            i += 2;
        }
        self.mention(i.saturating_sub(1), module, &path, test);
        let target = Written {
            scope: module.clone(),
            path,
        };
        self.sources.aliases.insert((module.clone(), name), target);
        i
    }

    /// Reads an `a::b::c` that is no import and gives the index of what follows it.
    fn path(&mut self, start: usize, module: &Route, test: bool) -> usize {
        let mut path = vec![self.text(start).to_owned()];
        let mut i = start + 1;
        while self.text(i) == "::" && self.is_name(i + 1) {
            path.push(self.text(i + 1).to_owned());
            i += 2;
        }
        let before = |n: usize| start.checked_sub(n).map_or("", |i| self.text(i));
        // `pub(in crate::a)` says who may look in, not who is looked at.
        let visibility = before(1) == "in" && before(2) == "(" && before(3) == "pub";
        // `$name::x` is whatever the macro is given; `$crate::x` is ours.
        let of_macro = before(1) == "$" && path[0] != "crate";
        // `<T as A>::B` and `a::<T>::b` go on from a type.
        let goes_on = before(1) == "::";
        if path.len() > 1 && !visibility && !of_macro && !goes_on {
            self.mention(start, module, &path, test);
        }
        i
    }

    fn mention(&mut self, at: usize, module: &Route, path: &[String], test: bool) {
        self.sources.written.push(Mention {
            file: self.file.to_owned(),
            line: self.tokens.get(at).map_or(0, |token| token.line),
            from: module.clone(),
            to: path.to_vec(),
            test,
        });
    }
}

/// Whether what a `cfg` says holds in tests only: `test` stands in it as it is, or in nothing but `all`.
fn needs_test(words: &[&str]) -> bool {
    let mut around = Vec::new();
    for (i, word) in words.iter().enumerate() {
        match *word {
            "(" => around.push(words[i.saturating_sub(1)]),
            ")" => drop(around.pop()),
            "test" if around.iter().all(|name| ["cfg", "all"].contains(name)) => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    /// The paths that `source`, as the file `core/src/NAME.rs`, mentions beside a few known modules.
    fn mentioned(name: &str, source: &str) -> Vec<String> {
        let file = format!("core/src/{name}.rs");
        let rest = [
            (
                "core/src/lib.rs",
                "forebay",
                "mod a; mod b; mod c; pub use b::Shown; pub use c::*; pub use d::Far;",
            ),
            (
                "core/src/a/mod.rs",
                "forebay",
                "pub mod deep; pub use deep::Hidden;",
            ),
            ("core/src/a/deep.rs", "forebay", "pub struct Hidden;"),
            (
                "core/src/b.rs",
                "forebay",
                "pub struct Shown; pub use crate::a::Hidden as Twice;",
            ),
            ("core/src/c.rs", "forebay", "pub struct Globbed;"),
        ];
        let files = rest.into_iter().chain([(file.as_str(), "forebay", source)]);
        let mentions = Sources::read(files).mentions();
        mentions
            .into_iter()
            .filter(|it| it.file == file && !it.test)
            .map(|it| it.to.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(
            words(r##"a "b \" c" 'd' '\'' b'e' r#"f " g"# h"##),
            ["a", "\"\"", "''", "''", "''", "\"\"", "h"]
        );
        assert_eq!(words("<'a, 'b>"), ["<", "'", "a", ",", "'", "b", ">"]);
        assert_eq!(words("r#type::x"), ["type", "::", "x"]);
        assert_eq!(tokens("a\n\"\n\"\nb").last().map(|token| token.line), Some(4));
    }

    #[test]
    fn a_use_tree_names_each_leaf() {
        assert_eq!(
            mentioned(
                "x",
                "use crate::{a::{deep::{self, Hidden}, other}, b::Shown as S,};"
            ),
            [
                "forebay::a::deep",
                "forebay::a::deep::Hidden",
                "forebay::a::other",
                "forebay::b::Shown"
            ]
        );
    }

    #[test]
    fn a_path_in_code_counts_like_an_import() {
        assert_eq!(
            mentioned("x", "fn f() { let y = crate::b::Shown; }"),
            ["forebay::b::Shown"]
        );
        assert_eq!(
            mentioned("x", "macro_rules! m { () => { $crate::b::Shown } }"),
            ["forebay::b::Shown"]
        );
    }

    #[test]
    fn super_and_self_lead_up_and_down() {
        assert_eq!(
            mentioned("a/y", "use super::deep::Hidden;"),
            ["forebay::a::deep::Hidden"]
        );
        assert_eq!(
            mentioned("a/y", "use super::super::b::Shown;"),
            ["forebay::b::Shown"]
        );
        assert_eq!(
            mentioned("y", "mod z { use super::super::b::Shown; }"),
            ["forebay::b::Shown"]
        );
        assert_eq!(
            mentioned("y", "mod z {} use self::z::W; use z::V;"),
            ["forebay::y::z::V", "forebay::y::z::W"]
        );
    }

    #[test]
    fn imports_renames_reexports_and_globs_are_followed() {
        assert_eq!(
            mentioned("x", "use crate::a as q; fn f() { q::deep::g(); }")
                .last()
                .expect("two"),
            "forebay::a::deep::g"
        );
        assert_eq!(mentioned("x", "use crate::Shown;"), ["forebay::b::Shown"]);
        assert_eq!(mentioned("x", "use crate::Globbed;"), ["forebay::c::Globbed"]);
        assert_eq!(
            mentioned("x", "use crate::a::Hidden;"),
            ["forebay::a::deep::Hidden"]
        );
        assert_eq!(
            mentioned("x", "use crate::b::Twice;"),
            ["forebay::a::deep::Hidden"]
        );
        assert_eq!(mentioned("x", "use crate::a::deep::*;"), ["forebay::a::deep"]);
        assert_eq!(
            mentioned("x", "use std::time::Instant as I; fn f() { I::now(); }")
                .last()
                .expect("two"),
            "std::time::Instant::now"
        );
    }

    #[test]
    fn what_is_no_mention() {
        assert!(mentioned("x", "pub(in crate::b) fn f() {}").is_empty());
        assert!(
            mentioned(
                "x",
                "// use crate::b::Shown;\nconst A: &str = \"crate::b::Shown\";"
            )
            .is_empty()
        );
        assert!(mentioned("x", "macro_rules! m { ($n:ident) => { $n::b() } }").is_empty());
    }

    #[test]
    fn tests_are_told_apart() {
        for source in [
            "#[cfg(test)] mod tests { use crate::b::Shown; }",
            "#[cfg(all(test, shuttle))] #[allow(unused)] mod tests { use crate::b::Shown; }",
            "#[cfg(all(unix, test, not(shuttle)))] mod tests { use crate::b::Shown; }",
            "#[test] fn f() { crate::b::g(); }",
            "#[cfg(test)] use crate::b::Shown;",
            "#![cfg(test)] use crate::b::Shown;",
        ] {
            assert!(mentioned("x", source).is_empty(), "{source}");
        }
        for source in [
            "#[cfg(test)] mod tests {} use crate::b::Shown;",
            "#[cfg(test)] const A: [u8; 2] = [0; 2]; use crate::b::Shown;",
            "#[cfg(not(test))] use crate::b::Shown;",
            "#[cfg(all(unix, not(test)))] use crate::b::Shown;",
            "#[cfg(any(test, unix))] use crate::b::Shown;",
        ] {
            assert_eq!(mentioned("x", source), ["forebay::b::Shown"], "{source}");
        }
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_is_one_too() {
        let files = [
            ("core/src/lib.rs", "forebay", "#[cfg(test)] mod tests;"),
            ("core/src/tests.rs", "forebay", "use crate::b::Shown;"),
        ];
        assert!(Sources::read(files).mentions().iter().all(|mention| mention.test));
    }
}

//! The engine suite: one macro, one test per case.

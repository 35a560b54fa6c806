//! How the shared library is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // Before 1.0 every minor version may break the ABI, so the minor version is part of the name. cargo-c
        // gives the same name by itself.
        if std::env::var_os("CARGO_FEATURE_CAPI").is_none() {
            let soname = format!("libforebay.so.{}.{}", env("MAJOR"), env("MINOR"));
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
        }
        // Worker threads may run when the host closes the library: its code must stay mapped.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

fn env(part: &str) -> String {
    let name = format!("CARGO_PKG_VERSION_{part}");
    std::env::var(&name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

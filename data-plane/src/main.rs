//! The program `data-plane`.

fn main() {}

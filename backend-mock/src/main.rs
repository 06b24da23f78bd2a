//! The program `backend-mock`.

fn main() {}

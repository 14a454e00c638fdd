//! One decoder for every family, and the places where it can be touched.

;; Computes for as many rounds as its input says (8 bytes, little endian), and returns 8 bytes.
(module
  (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32)
    (i32.const 1024))
  (func (export "run") (param $at i32) (param $length i32) (result i64)
    (local $left i64) (local $value i64)
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (local.set $left (i64.load (local.get $at)))
    (local.set $value (i64.const 0x9e3779b97f4a7c15))
    (block $done
      (loop $again
        (br_if $done (i64.eqz (local.get $left)))
        (local.set $value
          (i64.mul (i64.xor (local.get $value) (i64.shr_u (local.get $value) (i64.const 29)))
            (i64.const 0xbf58476d1ce4e5b9)))
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br $again)))
    (i64.store (local.get $at) (local.get $value))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32))
      (i64.const 8))))

;; Copies its input to fresh memory: what a unit costs whatever its program does.
(module
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 65536))
  (func $reserve (param $length i32) (result i32)
    (local $start i32)
    (local.set $start (global.get $top))
    (global.set $top (i32.add (local.get $start) (local.get $length)))
    (drop (memory.grow (i32.add (i32.shr_u (local.get $length) (i32.const 16)) (i32.const 1))))
    (local.get $start))
  (func (export "alloc") (param $length i32) (result i32)
    (call $reserve (local.get $length)))
  ;; The buffer starts with the length of the arguments, of which there are none.
  (func (export "run") (param $at i32) (param $length i32) (result i64)
    (local $to i32)
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (local.set $length (i32.sub (local.get $length) (i32.const 4)))
    (local.set $to (call $reserve (local.get $length)))
    (memory.copy (local.get $to) (local.get $at) (local.get $length))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $to)) (i64.const 32))
      (i64.extend_i32_u (local.get $length)))))

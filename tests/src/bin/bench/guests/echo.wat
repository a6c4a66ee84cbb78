;; Returns its input with the first byte inverted: a kernel that does next to nothing, so that everything around it can
;; be measured, and whose output is no content that is there already.
(module
  (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32)
    (i32.const 1024))
  ;; The buffer starts with the length of the arguments, of which there are none.
  (func (export "run") (param $at i32) (param $length i32) (result i64)
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (i32.store8 (local.get $at) (i32.xor (i32.load8_u (local.get $at)) (i32.const 255)))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32))
      (i64.extend_i32_u (i32.sub (local.get $length) (i32.const 4))))))

// From an accumulator to an output: one rounding shift, then saturation (docs/hardware.md, "How a layer rounds").
module requantize #(
    parameter ACC_BITS = 32,
    parameter SHIFT = 0,  // bits to drop; a negative one appends zeros
    parameter ROUNDING = 0,  // 0 half_even, 1 half_away, 2 half_up, 3 truncate
    parameter OUT_BITS = 8,
    parameter signed [63:0] MIN = -128,
    parameter signed [63:0] MAX = 127
) (
    input signed [ACC_BITS-1:0] acc,
    output [OUT_BITS-1:0] out
);
    localparam DOWN = SHIFT > 0 ? SHIFT : 0;
    localparam UP = SHIFT < 0 ? -SHIFT : 0;
    // Twice the rest has to fit, and so has the greatest floor plus one.
    localparam WIDE = ACC_BITS + DOWN + UP + 2;

    wire signed [WIDE-1:0] exact = {{(WIDE - ACC_BITS) {acc[ACC_BITS-1]}}, acc} <<< UP;
    wire signed [WIDE-1:0] floor = exact >>> DOWN;
    wire signed [WIDE-1:0] twice = (exact - (floor <<< DOWN)) <<< 1;
    wire signed [WIDE-1:0] unit = {{(WIDE - 1) {1'b0}}, 1'b1} <<< DOWN;
    wire above = twice > unit;
    wire tie = twice == unit;
    wire up = ROUNDING == 0 ? above | (tie & floor[0])
            : ROUNDING == 1 ? above | (tie & ~acc[ACC_BITS-1])
            : ROUNDING == 2 ? above | tie
            : 1'b0;
    wire signed [WIDE-1:0] rounded = up ? floor + 1 : floor;
    wire signed [WIDE+63:0] wide = {{64{rounded[WIDE-1]}}, rounded};

    assign out = wide < MIN ? MIN[OUT_BITS-1:0] : wide > MAX ? MAX[OUT_BITS-1:0] : wide[OUT_BITS-1:0];
endmodule

// A fully connected layer: one multiplication a clock, outputs one after the other.
//
// The input lies in a memory outside, which is read without delay. Weights are in the order of net.json's "OI".
module fc #(
    parameter INPUTS = 1,
    parameter OUTPUTS = 1,
    parameter IN_BITS = 8,
    parameter IN_SIGNED = 1,
    parameter WEIGHT_BITS = 8,
    parameter BIAS_BITS = 32,
    parameter HAS_BIAS = 1,
    parameter ACC_BITS = 32,
    parameter SHIFT = 0,
    parameter ROUNDING = 0,
    parameter OUT_BITS = 8,
    parameter signed [63:0] MIN = -128,
    parameter signed [63:0] MAX = 127,
    parameter WEIGHTS_FILE = "",
    parameter BIAS_FILE = ""
) (
    input clk,
    input reset,
    input start,
    output [31:0] in_address,
    input [IN_BITS-1:0] in_data,
    output reg out_valid,
    output reg [31:0] out_address,
    output [OUT_BITS-1:0] out_data,
    output reg done
);
    reg signed [WEIGHT_BITS-1:0] weights[0:OUTPUTS*INPUTS-1];
    reg signed [BIAS_BITS-1:0] bias[0:OUTPUTS-1];
    initial begin
        $readmemh(WEIGHTS_FILE, weights);
        if (HAS_BIAS) $readmemh(BIAS_FILE, bias);
    end

    reg running;
    reg [31:0] o, i, weight_address;
    reg signed [ACC_BITS-1:0] acc;

    // One bit more than the input, so that an input without sign stays positive.
    wire signed [IN_BITS:0] x = {IN_SIGNED ? in_data[IN_BITS-1] : 1'b0, in_data};
    wire signed [WEIGHT_BITS-1:0] w = weights[weight_address];
    wire signed [IN_BITS+WEIGHT_BITS:0] product = x * w;
    wire signed [BIAS_BITS-1:0] b = HAS_BIAS ? bias[o] : 0;
    wire last = i == INPUTS - 1;

    assign in_address = i;

    always @(posedge clk) begin
        out_valid <= 0;
        done <= 0;
        if (reset) begin
            running <= 0;
        end else if (start) begin
            running <= 1;
            o <= 0;
            i <= 0;
            weight_address <= 0;
        end else if (running) begin
            acc <= (i == 0 ? b : acc) + product;
            weight_address <= weight_address + 1;
            i <= last ? 0 : i + 1;
            if (last) begin
                out_valid <= 1;
                out_address <= o;
                o <= o + 1;
                if (o == OUTPUTS - 1) begin
                    running <= 0;
                    done <= 1;
                end
            end
        end
    end

    requantize #(
        .ACC_BITS(ACC_BITS),
        .SHIFT(SHIFT),
        .ROUNDING(ROUNDING),
        .OUT_BITS(OUT_BITS),
        .MIN(MIN),
        .MAX(MAX)
    ) to_output (
        .acc(acc),
        .out(out_data)
    );
endmodule

// Feeds a layer the exported images and holds what it makes to the exported output. layer.vh is written by layer.py.
`timescale 1ns / 1ns
`include "layer.vh"

module bench;
    reg clk = 0, reset = 1, start = 0;
    always #5 clk = ~clk;

    reg [`IN_BITS-1:0] inputs[0:`IMAGES*`IN_LENGTH-1];
    reg [`OUT_BITS-1:0] expected[0:`IMAGES*`OUT_LENGTH-1];
    wire [31:0] in_address, out_address;
    wire [`OUT_BITS-1:0] out_data;
    wire out_valid, done;
    integer image = 0, seen = 0, wrong = 0;

    wire [`IN_BITS-1:0] in_data = inputs[image*`IN_LENGTH+in_address];
    wire [`OUT_BITS-1:0] wanted = expected[image*`OUT_LENGTH+out_address];

    `MODULE #(
        `GEOMETRY,
        .IN_BITS(`IN_BITS),
        .IN_SIGNED(`IN_SIGNED),
        .WEIGHT_BITS(`WEIGHT_BITS),
        .BIAS_BITS(`BIAS_BITS),
        .HAS_BIAS(`HAS_BIAS),
        .ACC_BITS(`ACC_BITS),
        .SHIFT(`SHIFT),
        .ROUNDING(`ROUNDING),
        .OUT_BITS(`OUT_BITS),
        .MIN(`MIN),
        .MAX(`MAX),
        .WEIGHTS_FILE(`WEIGHTS_FILE),
        .BIAS_FILE(`BIAS_FILE)
    ) layer (
        .clk(clk),
        .reset(reset),
        .start(start),
        .in_address(in_address),
        .in_data(in_data),
        .out_valid(out_valid),
        .out_address(out_address),
        .out_data(out_data),
        .done(done)
    );

    // An unknown bit (x) is no match either.
    always @(negedge clk)
        if (out_valid) begin
            seen = seen + 1;
            if (out_data !== wanted) begin
                wrong = wrong + 1;
                if (wrong <= 5)
                    $display("image %0d, output %0d: %h, expected %h", image, out_address, out_data, wanted);
            end
        end

    initial begin
        $readmemh(`IN_FILE, inputs);
        $readmemh(`OUT_FILE, expected);
        repeat (2) @(negedge clk);
        reset = 0;
        for (image = 0; image < `IMAGES; image = image + 1) begin
            start = 1;
            @(negedge clk);
            start = 0;
            while (!done) @(negedge clk);
            @(negedge clk);  // done comes with the last output: let that be checked first
        end
        if (wrong == 0 && seen == `IMAGES * `OUT_LENGTH) $display("PASS: %0d outputs", seen);
        else $display("FAIL: %0d of %0d outputs differ, %0d expected", wrong, seen, `IMAGES * `OUT_LENGTH);
        $finish;
    end
endmodule
